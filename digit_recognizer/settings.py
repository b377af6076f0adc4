"""What can be set of a net: each field's default, bounds and description, and `--set FIELD=VALUE`."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from digit_recognizer.errors import RecipeError

MAX_LAYERS = 20  # of each kind
MAX_EPOCHS = 10_000

Units = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=28)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1000)]
Strength = Annotated[float, Field(ge=0, le=10)]
# Of these the two kinds of nets have different defaults.
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS, description="times that a net sees each training digit")]
BatchSize = Annotated[int, Field(ge=1, le=65_536, description="training digits in one step")]


class NetSettings(BaseModel):
    """Hold the fields that both kinds of nets have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden: tuple[Units, ...] = Field(
        default=(128, 64), max_length=MAX_LAYERS, description="units of each hidden dense layer"
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1e6, description="step size, at its highest")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine warms up, and falls to 0 along half a cosine"
    )
    epochs: Epochs
    batch_size: BatchSize
    patience: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="epochs without progress on a tenth of the rows after which to stop; 0: never",
    )
    deskew: bool = Field(
        default=False, description="remove each digit's slant and centre it, before all else"
    )
    augment_strength: Strength = Field(
        default=0.0, description="how much training digits are distorted at first"
    )
    augment_strength_end: Strength = Field(default=0.0, description="the same in the end; it changes evenly")
    tta: bool = Field(default=False, description="test-time augmentation: average over shifts by a pixel")

    @property
    def is_convolutional(self) -> bool:
        """Whether the net has convolutions; else it is a dense net."""
        return bool(getattr(self, "channels", ()))

    def replace(self, **changes: object) -> Self:
        """Return these settings with other values, checked like the first ones."""
        return self.model_validate({**self.model_dump(), **changes})


class KerasSettings(NetSettings):
    """Set up `nets.keras_net.KerasNet`: convolutions, if it has `channels`, and dense layers."""

    net: Literal["keras"] = "keras"
    epochs: Epochs = 10
    batch_size: BatchSize = 32
    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(), max_length=MAX_LAYERS, description="channels of each convolution"
    )
    kernel_sizes: tuple[Pixels, ...] = Field(
        default=(),
        max_length=MAX_LAYERS,
        description="width of each convolution's kernel; 3 beyond the last one",
    )
    strides: tuple[Pixels, ...] = Field(
        default=(), max_length=MAX_LAYERS, description="stride of each convolution; 2 beyond the last one"
    )
    global_pool: bool = Field(
        default=False, description="average each channel over the image after the convolutions"
    )
    activation: Literal["relu", "gelu", "elu", "tanh"] = Field(
        default="relu", description="of all hidden layers"
    )
    output: Literal["softmax", "sigmoid"] = Field(
        default="softmax", description="of the last layer; sigmoids are scaled to a sum of 1"
    )
    batch_norm: bool = Field(default=False, description="batch normalisation before each activation")
    bfloat16: bool = Field(
        default=False,
        description="mixed precision in convolutional nets, on processors that are faster at it",
    )
    dropout: tuple[Fraction, ...] = Field(
        default=(), max_length=MAX_LAYERS, description="share of units dropped after each hidden dense layer"
    )
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field(
        default="adam", description="how gradients become steps; sgd has Nesterov momentum 0.9"
    )
    weight_decay: NonNegativeFloat = Field(
        default=0.0, description="share of each weight that a step takes away, per learning_rate"
    )
    label_smoothing: Fraction = Field(
        default=0.0, description="share of each label that is spread over all digits"
    )

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        if len(self.dropout) > len(self.hidden):
            raise ValueError(f"dropout has {len(self.dropout)} shares for {len(self.hidden)} hidden layers")
        for name, values in (("kernel_sizes", self.kernel_sizes), ("strides", self.strides)):
            if len(values) > len(self.channels):
                raise ValueError(f"{name} has {len(values)} numbers for {len(self.channels)} convolutions")
        if self.global_pool and not self.channels:
            raise ValueError("global_pool needs convolutions; give channels, such as channels=32,64")
        return self


class MLPSettings(NetSettings):
    """Hold the settings of `nets.sklearn_net.EpochwiseMLPClassifier`, which wraps scikit-learn's."""

    net: Literal["mlp"] = "mlp"
    epochs: Epochs = 20
    batch_size: BatchSize = 200
    preprocessing: Literal["scale", "standardize", "pca"] = Field(
        default="scale",
        description="pixels to 0..1 and, after that, each to mean 0 and std 1, or 95% of variance kept",
    )
    activation: Literal["relu", "tanh", "logistic"] = Field(
        default="relu", description="of all hidden layers"
    )
    optimizer: Literal["adam", "sgd"] = Field(default="adam", description="how gradients become steps")
    alpha: NonNegativeFloat = Field(default=1e-4, description="L2 penalty")
    averaged_epochs: int = Field(
        default=1, ge=1, le=10_000, description="last epochs whose weights are averaged"
    )

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        augmenting = [name for name, value in self if name.startswith("augment_") and value]
        for name in [*augmenting, *(["tta"] if self.tta else [])]:
            if self.preprocessing != "scale":
                raise ValueError(
                    f"{name} works on images: use preprocessing=scale, not preprocessing={self.preprocessing}"
                )
        averaging = ["averaged_epochs"] if self.averaged_epochs > 1 else []
        if self.patience and (others := augmenting + averaging):
            raise ValueError(f"patience cannot be combined with {' or '.join(others)}")
        if self.learning_rate_schedule == "cosine" and (self.patience or self.optimizer != "adam"):
            raise ValueError(
                "learning_rate_schedule=cosine needs optimizer=adam and no patience; "
                "give learning_rate_schedule=constant as well"
            )
        return self


Settings = Annotated[KerasSettings | MLPSettings, Field(discriminator="net")]
AnySettings = TypeVar("AnySettings", bound=NetSettings)


class FieldText(NamedTuple):
    """Describe a field in words, as the docs, `recipes` and error messages do."""

    name: str
    default: str
    allowed: str
    description: str


class _Schema(BaseModel):
    """What a field's JSON schema says of its values."""

    type: str
    enum: tuple[str, ...] = ()
    items: "_Schema | None" = None
    max_items: int = Field(default=0, alias="maxItems")
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = Field(default=None, alias="exclusiveMinimum")
    below: float | None = Field(default=None, alias="exclusiveMaximum")

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.type == "boolean":
            return "yes or no"
        if self.type == "string":
            return " or ".join(self.enum)
        if self.items:
            return f"{self.items.allowed}; up to {self.max_items} separated by commas; or none"
        number = "an integer" if self.type == "integer" else "a number"
        low = f"from {self.minimum:g}" if self.above is None else f"above {self.above:g}, up"
        high = f"to {self.maximum:.0f}" if self.below is None else f"to below {self.below:g}"
        return f"{number} {low} {high}"


def describe(settings_type: type[NetSettings]) -> list[FieldText]:
    """Return all fields that can be set, in words."""
    schemas = settings_type.model_json_schema()["properties"]
    return [
        FieldText(
            name, format_value(field.default), _Schema(**schemas[name]).allowed, field.description or ""
        )
        for name, field in settings_type.model_fields.items()
        if name != "net"
    ]


def format_value(value: object) -> str:
    """Return a field's value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def override(settings: AnySettings, assignments: Sequence[str]) -> tuple[AnySettings, set[str]]:
    """Return the settings with each `field=value` put in, and the assignments that named a field of theirs.

    Raises RecipeError with what is allowed if a value is not.
    """
    fields = type(settings).model_fields
    values: dict[str, str | list[str]] = {}
    used: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeError(f"--set {assignment}: expected FIELD=VALUE, such as epochs=20")
        if name in fields and name != "net":
            several = get_origin(fields[name].annotation) is tuple
            values[name] = ([] if text == "none" else text.split(",")) if several else text
            used[assignment] = name
    try:
        return settings.replace(**values), set(used)
    except ValidationError as error:
        raise RecipeError(_explain(error, type(settings), used)) from None


def _explain(error: ValidationError, settings_type: type[NetSettings], used: dict[str, str]) -> str:
    """Return the first of the errors in one line."""
    first = error.errors()[0]
    if not first["loc"]:  # of fields that do not go together
        return str(first["ctx"]["error"])
    name = first["loc"][0]
    assignment = [assignment for assignment, field in used.items() if field == name][-1]
    allowed = next(field.allowed for field in describe(settings_type) if field.name == name)
    return f"--set {assignment}: {name} is {allowed}"
