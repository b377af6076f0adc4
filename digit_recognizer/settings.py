"""What can be set of a net: each field's default, bounds and description, and `--set FIELD=VALUE`."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from digit_recognizer.errors import RecipeError
from digit_recognizer.records import Options, explain, field_schema

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


class NetSettings(Options):
    """Hold the fields that both kinds of nets have."""

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
# The JSON schema of each field that `--set` takes; one that both kinds of nets have reads text alike.
FIELDS = {
    name: schema
    for kind in (KerasSettings, MLPSettings)
    for name, schema in kind.model_json_schema()["properties"].items()
    if name != "net"
}


class FieldText(NamedTuple):
    """Describe a field in words, as the docs, `recipes` and error messages do."""

    name: str
    default: str
    allowed: str
    description: str


def describe(settings_type: type[NetSettings]) -> list[FieldText]:
    """Return all fields that can be set, in words."""
    schemas = settings_type.model_json_schema()["properties"]
    return [
        FieldText(
            name, format_value(field.default), field_schema(schemas[name]).allowed, field.description or ""
        )
        for name, field in settings_type.model_fields.items()
        if name != "net"
    ]


def format_value(value: object) -> str:
    """Return a field's value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def parse(assignment: str) -> tuple[str, object]:
    """Return field and value of a typed FIELD=VALUE; what reads as no value of the field stays text."""
    name, _, text = assignment.partition("=")
    return name, field_schema(FIELDS[name]).read(text) if name in FIELDS else text


def override(settings: AnySettings, overrides: Mapping[str, object]) -> AnySettings:
    """Return the settings with those values put in that are of fields of theirs.

    Raises RecipeError, with what is expected, if they do not take a value.
    """
    theirs = {name: value for name, value in overrides.items() if name in type(settings).model_fields}
    try:
        return settings.replace(**theirs)
    except ValidationError as error:
        raise RecipeError(explain(error, type(settings), "`settings` {}")) from None
