"""Options, made from the records that hold what they may be."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from digit_recognizer.errors import OptionError, nearest, shown
from digit_recognizer.files import default_folder
from digit_recognizer.job import Asked, Folder, Job, NewRun, flag_of
from digit_recognizer.records import Record, field_schema
from digit_recognizer.settings import FIELDS, parse

AskedFor = TypeVar("AskedFor", bound=Asked)
Decorator = Callable[..., Any]


class Checked(click.ParamType):
    """The type of a value that an annotation of pydantic's allows."""

    def __init__(self, annotation: Any) -> None:
        self._adapter = TypeAdapter[Any](annotation, config=Record.model_config)
        self._schema = field_schema(self._adapter.json_schema())
        self.allowed = self._schema.allowed
        self.name = {"integer": "N", "number": "X"}.get(
            self._schema.type, "PATH" if "path" in self.allowed else "NAME"
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that the text stands for; anything that is not allowed is a usage error."""
        try:
            return self._adapter.validate_python(
                self._schema.read(value) if isinstance(value, str) else value
            )
        except ValidationError as error:
            reason = error.errors(include_url=False)[0].get("ctx", {}).get("error")
            why = f" ({reason})" if reason and str(reason) else ""
            self.fail(f"found {shown(value)}{why}, expected {self.allowed}.", param, ctx)


PATH = Checked(Folder)
RUN = Checked(Annotated[Folder, AfterValidator(str)])  # a run's name, or its folder
# What click has to know of some fields' options, besides.
SPECIAL: dict[str, dict[str, Any]] = {
    "out": {"default": lambda: default_folder("submissions")},  # of the moment, not of the import
    "recipes": {"type": str, "multiple": True, "metavar": "NAME"},
    "settings": {"type": parse, "multiple": True, "metavar": "FIELD=VALUE"},
    "cluster": {"metavar": "ADDRESS"},
    "space": {"type": str, "multiple": True, "metavar": "FIELD=A,B|LOW..HIGH"},
    "ensemble": {"flag": "--ensemble/--no-ensemble"},
}


def bounded(annotation: Any, help: str | None) -> dict[str, Any]:
    """Return type and help of an option, for click, of an annotation."""
    kind = Checked(annotation)
    return {"type": kind, "help": help if kind.name == "PATH" else f"{help} [{kind.allowed}]"}


def option(record: type[Asked], name: str, *, help: str | None = None, **attributes: Any) -> Decorator:
    """Return the option for a record's field, with its description; `attributes` are click's."""
    field = record.model_fields[name]
    made: dict[str, Any] = {"help": help or field.description, "required": field.is_required()}
    made["default"] = None if field.is_required() else field.default
    special = SPECIAL.get(name, {})
    if field.annotation is bool:
        made["is_flag"] = True
    elif get_origin(field.annotation) is Literal:
        made["type"] = click.Choice(get_args(field.annotation))
    elif "type" not in special:
        allowed = Field(json_schema_extra=field.json_schema_extra)  # which the next line leaves out
        made |= bounded(Annotated[field.rebuild_annotation(), allowed], made["help"])
    made |= {"flag": flag_of(name), **special, **attributes}
    shown_default = made["default"] not in (None, False) and not callable(made["default"])
    return click.option(made.pop("flag"), name, show_default=shown_default, **made)


def with_options(options: Sequence[Decorator]) -> Decorator:
    """Return a decorator that adds several options at once, in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
OUT, NAME = option(Asked, "out"), option(NewRun, "name")
TRAINING = [
    *(option(Job, name) for name in ("repeats", "recipes", "settings", "minutes", "ensemble", "seed")),
    *(option(Job, name) for name in ("jobs", "cluster", "data_dir", "out", "name", "resume")),
    JSON,
]


class TrainingCommand(click.Command):
    """A command that says how to give a recipe, or a net's setting, if one is typed as something else."""

    allow_extra_args = True  # to `parse_args`

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return what is left of the arguments."""
        typed = " ".join(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = [str(parameter.name) for parameter in self.params]
            name = nearest(error.option_name.strip("-").replace("-", "_"), [*options, *FIELDS])
            if name not in FIELDS:
                raise
            value = typed.partition(error.option_name)[2].lstrip(" =").partition(" ")[0]
            setting = f"--set {name}={value or 'VALUE'}"
            raise click.UsageError(f"No such option {error.option_name!r}; give {setting}.", ctx) from None
        if rest and not ctx.resilient_parsing:  # as it is while the shell completes a word
            raise click.UsageError(
                f"found {shown(rest[0])}, expected options alone; a recipe is given as --recipe NAME, a "
                "setting as --set FIELD=VALUE.",
                ctx,
            )
        return rest


def ask(record: type[AskedFor], **options: Any) -> AskedFor:
    """Return a command's options as their record; what does not go together is a usage error."""
    settings = {"settings": dict(options["settings"])} if options.get("settings") else {}
    try:
        return record(**{name: value for name, value in options.items() if value != ()} | settings)
    except OptionError as error:
        raise click.UsageError(f"{error}.", click.get_current_context()) from None
