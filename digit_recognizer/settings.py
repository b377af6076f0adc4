"""What can be set of a net: each field's default, bounds and description, and `--set FIELD=VALUE`."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from digit_recognizer.errors import OptionError
from digit_recognizer.records import FieldSchema, Options, explain, field_schema

MAX_EPOCHS = 10_000

Value = TypeVar("Value")
PerLayer = Annotated[tuple[Value, ...], Field(max_length=20)]
Units = Annotated[int, Field(ge=1, le=4096)]
Channels = Annotated[int, Field(ge=1, le=1024)]
Pixels = Annotated[int, Field(ge=1, le=28)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(ge=0, le=1000)]
Strength = Annotated[float, Field(ge=0, le=10)]
# Of these the two kinds of nets have different defaults.
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS, description="passes over the training rows")]
BatchSize = Annotated[int, Field(ge=1, le=65_536, description="mini-batch size")]


class NetSettings(Options):
    """Hold the fields that both kinds of nets have; their docstrings are the docs' descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    hidden: PerLayer[Units] = (128, 64)
    """units of each hidden dense layer"""
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 1e-3
    """peak learning rate"""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """cosine: a linear warm-up, then half a cosine down to 0"""
    epochs: Epochs
    batch_size: BatchSize
    patience: Annotated[int, Field(ge=0, le=10_000)] = 0
    """early-stopping patience, in epochs, on a 10% internal split; 0: train all epochs"""
    deskew: bool = False
    """remove each digit's slant and centre it, before all else"""
    augment_strength: Strength = 0.0
    """strength of the augmentation at the start of a training"""
    augment_strength_end: Strength = 0.0
    """the same at its end; it changes evenly"""
    tta: bool = False
    """test-time augmentation: average over shifts by a pixel"""

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
    channels: PerLayer[Channels] = ()
    """channels of each convolution"""
    kernel_sizes: PerLayer[Pixels] = ()
    """kernel size of each convolution; 3 beyond the last one"""
    strides: PerLayer[Pixels] = ()
    """stride of each convolution; 2 beyond the last one"""
    global_pool: bool = False
    """global average pooling after the convolutions"""
    activation: Literal["relu", "gelu", "elu", "tanh"] = "relu"
    """of all hidden layers"""
    output: Literal["softmax", "sigmoid"] = "softmax"
    """of the last layer; sigmoids are scaled to a sum of 1"""
    batch_norm: bool = False
    """batch normalisation before each activation"""
    bfloat16: bool = False
    """mixed precision in convolutional nets, on processors that are faster at it"""
    dropout: PerLayer[Fraction] = ()
    """dropout rate after each hidden dense layer"""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    """optimizer; sgd has Nesterov momentum 0.9"""
    weight_decay: Penalty = 0.0
    """decoupled weight decay, times the learning rate"""
    label_smoothing: Fraction = 0.0
    """label smoothing"""

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        if len(self.dropout) > len(self.hidden):
            raise ValueError(f"dropout has {len(self.dropout)} rates for {len(self.hidden)} hidden layers")
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
    preprocessing: Literal["scale", "standardize", "pca"] = "scale"
    """pixels to 0..1 and, after that, each to mean 0 and std 1, or PCA with 95% of the variance"""
    activation: Literal["relu", "tanh", "logistic"] = "relu"
    """of all hidden layers"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """optimizer"""
    alpha: Penalty = 1e-4
    """L2 penalty"""
    averaged_epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    """last epochs whose weights are averaged"""

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


@cache
def describe(kind: type[NetSettings]) -> dict[str, FieldSchema]:
    """Return, of each field that can be set, what is allowed, its default and its description."""
    properties = kind.model_json_schema()["properties"]
    return {name: field_schema(schema) for name, schema in properties.items() if name != "net"}


FIELDS = {**KerasSettings.model_fields, **MLPSettings.model_fields}.keys() - {"net"}


def format_value(value: object) -> str:
    """Return a field's value as `--set` takes it, also that of `tune`, where commas part values."""
    if isinstance(value, list | tuple):
        return ("-" if all(isinstance(x, int) for x in value) else ",").join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def parse(assignment: str) -> tuple[str, object]:
    """Return field and value of a typed FIELD=VALUE; what reads as no value of the field stays text."""
    name, _, text = assignment.partition("=")
    fields = describe(KerasSettings) | describe(MLPSettings)  # a field of both kinds reads text alike
    return name, fields[name].read(text) if name in fields else text


def override(settings: Settings, overrides: Mapping[str, object]) -> Settings:
    """Return the settings with the values put in whose fields they have; OptionError tells of a wrong one."""
    theirs = {name: value for name, value in overrides.items() if name in type(settings).model_fields}
    try:
        return settings.replace(**theirs)
    except ValidationError as error:
        raise OptionError(explain(error, type(settings), "--set {}")) from None
