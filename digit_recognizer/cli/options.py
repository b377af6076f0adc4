"""Options, made from the records that hold what they may be."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import TypeAdapter, ValidationError

from digit_recognizer import files
from digit_recognizer.errors import OptionError, nearest, printable, shown
from digit_recognizer.job import Asked, Job, NewRun
from digit_recognizer.records import Record, field_schema
from digit_recognizer.settings import FIELDS, parse

AskedFor = TypeVar("AskedFor", bound=Asked)
Decorator = Callable[..., Any]


class UserPath(click.Path):
    """A path that the user names; one that the system cannot even look at is a usage error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or its text with `path_type=str`."""
        try:
            return self.coerce_path_result(files.user_path(value))
        except OSError as error:
            self.fail(f"'{printable(value)}': {error.strerror}.", param, ctx)


PATH = UserPath(path_type=Path)
RUN = UserPath(path_type=str)  # a run's name, or its folder


class Checked(click.ParamType):
    """The type of a value that an annotation of pydantic's allows."""

    name = "value"

    def __init__(self, annotation: Any) -> None:
        self._adapter = TypeAdapter[Any](annotation, config=Record.model_config)
        self._schema = field_schema(self._adapter.json_schema())
        self.allowed = self._schema.allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that the text stands for; anything that is not allowed is a usage error."""
        try:
            return self._adapter.validate_python(
                self._schema.read(value) if isinstance(value, str) else value
            )
        except ValidationError:
            self.fail(f"found {shown(value)}, expected {self.allowed}.", param, ctx)


def bounded(annotation: Any, help: str | None) -> dict[str, Any]:
    """Return type and help of an option, for click, of an annotation."""
    kind = Checked(annotation)
    return {"type": kind, "help": f"{help} [{kind.allowed}]"}


def option(record: type[Asked], name: str, *flags: str, **attributes: Any) -> Decorator:
    """Return the option for a record's field; `flags` and `attributes` are click's, where they differ."""
    field = record.model_fields[name]
    help = attributes.pop("help", field.description)
    made: dict[str, Any] = {"help": help, "default": field.default}
    if field.annotation is bool:
        made["is_flag"] = True
    elif get_origin(field.annotation) is Literal:
        made["type"] = click.Choice(get_args(field.annotation))
    elif "type" not in attributes:
        made |= bounded(field.rebuild_annotation(), help)
    made |= attributes
    shown_default = made["default"] is not None and made["default"] is not False
    return click.option(*(flags or ["--" + name.replace("_", "-")]), name, show_default=shown_default, **made)


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead.")
OUT = option(Asked, "out", type=PATH)
NAME = option(NewRun, "name", metavar="NAME")
TRAINING = [
    option(Job, "repeats", metavar="R"),
    option(Job, "recipes", "--recipe", type=str, multiple=True, metavar="NAME"),
    option(Job, "settings", "--set", type=parse, multiple=True, metavar="FIELD=VALUE"),
    option(Job, "minutes", metavar="M"),
    option(Job, "ensemble", "--ensemble/--no-ensemble"),
    option(Job, "seed", metavar="N"),
    option(Job, "jobs", metavar="N"),
    option(Job, "data_dir", type=PATH),
    OUT,
    NAME,
    option(Job, "resume"),
    JSON,
]


class TrainingCommand(click.Command):
    """A command that says how to give a net's setting, if one is typed as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return what is left of the arguments."""
        typed = " ".join(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = [str(parameter.name) for parameter in self.params]
            name = nearest(error.option_name.strip("-").replace("-", "_"), [*options, *FIELDS])
            if name not in FIELDS:
                raise
            value = typed.partition(error.option_name)[2].lstrip(" =").partition(" ")[0]
            setting = f"--set {name}={value or 'VALUE'}"
            raise click.UsageError(f"No such option {error.option_name!r}; give {setting}.", ctx) from None


def with_options(options: Iterable[Decorator]) -> Decorator:
    """Return a decorator that adds several options at once, in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return decorate


def ask(record: type[AskedFor], **options: Any) -> AskedFor:
    """Return a command's options as their record; what does not go together is a usage error."""
    try:
        settings = {"settings": dict(options["settings"])} if options.get("settings") else {}
        return record(**{name: value for name, value in options.items() if value != ()} | settings)
    except OptionError as error:
        context = click.get_current_context()
        typed = {parameter.name: parameter.opts[0] for parameter in context.command.params}
        text = re.sub(r"`(\w+)`", lambda name: typed.get(name[1], name[0]), str(error))
        raise click.UsageError(f"{text}.", context) from None
