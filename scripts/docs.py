"""Write the generated parts of README.md and docs/: `make docs`.

A generated part stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`; NAME is a key of PARTS.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click

import digit_recognizer
from digit_recognizer import errors, manifest, settings
from digit_recognizer.cli import commands
from digit_recognizer.recipes import RECIPES
from scripts import benchmark

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGE = Path(digit_recognizer.__file__).parent
MARKED = re.compile(r"(<!-- ([a-z-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
# Contestants in the README.
SHORT = ("keras-deep", "keras-cnn", "minutes-0.5", "train", "minutes-1", "minutes-5", "minutes-15")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    head = list(head)
    for row in [head, ["---"] * len(head), *rows]:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def results() -> Iterator[str]:
    """Yield the benchmark's main results, for the README, of what was measured."""
    by_name = {name: [result for result in _measurements() if result["contestant"] == name] for name in SHORT}
    rows = []
    for name, runs in by_name.items():
        if not runs:
            continue
        seconds, accuracy = ([run[field] for run in runs] for field in ("seconds", "accuracy"))
        numbers = benchmark.mean(seconds, ".1f"), benchmark.mean(accuracy, ".4f")
        rows.append([benchmark.CONTESTANTS[name], *numbers, str(len(runs))])
    yield from table(["what", "wall time, s", "accuracy", "runs"], rows)


def evidence() -> Iterator[str]:
    """Yield the recipes' evidence."""
    rows = []
    for recipe in RECIPES.values():
        measured = ["not measured", "-", "-"]
        if evidence := recipe.evidence:
            measured = [f"{evidence.mean:.4f} ± {evidence.std:.4f}", f"{evidence.seconds:.0f}", evidence.date]
        rows.append([f"`{recipe.name}`", recipe.summary, *measured])
    yield from table(["recipe", "what it is", "accuracy", "seconds", "measured"], rows)


def _measurements() -> list[dict[str, Any]]:
    return json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))


def fields(*kinds: type[settings.NetSettings]) -> Iterator[str]:
    """Yield a table of the fields that all kinds share or, of a single kind, of its further fields."""
    described = [settings.describe(kind) for kind in kinds]
    rows = []
    for name, field in described[0].items():
        if (name in settings.NetSettings.model_fields) == (len(kinds) > 1):
            defaults = dict.fromkeys(f"`{settings.format_value(kind[name].default)}`" for kind in described)
            rows.append([f"`{name}`", " or ".join(defaults), field.allowed, field.description])
    yield from table(["field", "default", "allowed", "meaning"], rows)


def options() -> Iterator[str]:
    """Yield each command: what it does, and a table of its options."""
    for name, command in sorted(commands.cli.commands.items()):
        arguments = [
            parameter.make_metavar(click.Context(command))
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        ]
        yield from (f"### `{' '.join([name, *arguments])}`", "", _prose(command.help or ""), "")
        listed = [
            parameter
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.hidden
        ]
        yield from table(["option", "meaning"], map(_option, listed))
        yield ""


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _option(option: click.Option) -> list[str]:
    """Return the cells of an option; click's own help would print them in another way with each version."""
    value = ""
    if isinstance(option.type, click.Choice):
        value = "|".join(option.type.choices)
    elif not option.is_flag:
        value = option.metavar or (
            option.type.name if option.type.name.isupper() else str(option.name).upper()
        )
    names = " / ".join([", ".join(option.opts), *option.secondary_opts])
    notes = []
    if option.show_default:
        notes.append(f"default: {option.opts[0][2:] if option.is_flag else option.default}")
    if option.show_envvar:
        notes.append(f"environment: `{option.envvar}`")
    text = " ".join(str(option.help).split()) + (f" [{'; '.join(notes)}]" if notes else "")
    return [f"`{names} {value}`".replace(" `", "`"), text]


def environment() -> Iterator[str]:
    """Yield the environment variables that stand for options."""
    variables = {
        parameter.envvar: parameter
        for command in commands.cli.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str) and not parameter.hidden
    }
    rows = [
        [f"`{variable}`", f"`{option.opts[-1]}`", f"{option.default}", str(option.help)]
        for variable, option in sorted(variables.items())
    ]
    yield from table(["variable", "same as", "default", "meaning"], rows)


def exit_codes() -> Iterator[str]:
    """Yield the exit codes."""
    codes = errors.EXIT_CODES.items()
    yield from table(["exit code", "meaning"], ([f"`{code}`", meaning] for code, meaning in codes))


def manifest_fields() -> Iterator[str]:
    """Yield the fields of `run.json`: a table for each record, the outermost first."""
    schema = manifest.Manifest.model_json_schema()
    records = {"Manifest": schema, **schema["$defs"]}
    shown = [name for name in _referenced("Manifest", records) if not name.endswith("Settings")]
    for name in shown:
        record = records[name]
        yield from (f"### {name}", "", _prose(record["description"]), "")
        rows = (
            [f"`{field}`", _type(value), value.get("description", "")]
            for field, value in record["properties"].items()
        )
        yield from table(["field", "type", "meaning"], rows)
        yield ""


def _referenced(name: str, records: dict[str, Any]) -> list[str]:
    """Return the record's name and those of all records in it, in the order of the fields."""
    names = [name]
    for inner in re.findall(r"'\$ref': '#/\$defs/(\w+)'", str(records[name]["properties"])):
        names += _referenced(inner, records)
    return list(dict.fromkeys(names))


def _type(value: dict[str, Any]) -> str:
    """Return a field's JSON schema in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return name if name.endswith("Settings") else f"[{name}](#{name.lower()})"
    if either := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(map(_type, either))
    if "const" in value or "enum" in value:
        return " or ".join(f"`{allowed}`" for allowed in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"{_type(inner)} by name" if isinstance(inner, dict) else "object"
    return value.get("format", "").replace("date-time", "date and time") or value["type"]


def modules() -> Iterator[str]:
    """Yield the package's modules by their layers: a module imports only from layers below its own."""
    imports = _imports()

    @cache
    def layer(module: str) -> int:
        return 1 + max(map(layer, imports[module]), default=0)

    rows = []
    for module in sorted(imports, key=lambda module: (-layer(module), module)):
        folder = PACKAGE / module
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
        rows.append([str(layer(module)), f"`{module}/`" if folder.is_dir() else f"`{module}.py`", line])
    yield from table(["layer", "module", "what is inside"], rows)


def _imports() -> dict[str, set[str]]:
    """Return, of each file or sub-package, the others that it imports from."""
    imports: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if not module.startswith("__"):
            names = imports.setdefault(module, set())
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == PACKAGE.name:
                    names |= {f"{node.module}.{alias.name}".split(".")[1] for alias in node.names}
    return {module: (names & set(imports)) - {module} for module, names in imports.items()}


PARTS: dict[str, Callable[[], Iterable[str]]] = {
    "results": results,
    "options": options,
    "recipes": evidence,
    "settings": lambda: fields(settings.KerasSettings, settings.MLPSettings),
    "keras-settings": lambda: fields(settings.KerasSettings),
    "mlp-settings": lambda: fields(settings.MLPSettings),
    "benchmark": lambda: [benchmark.table(_measurements())],
    "time-to-accuracy": lambda: [benchmark.time_to_accuracy(_measurements())],
    "exit-codes": exit_codes,
    "environment": environment,
    "manifest": manifest_fields,
    "modules": modules,
}


def renew(text: str) -> str:
    """Return a page's text with its generated parts as the code and `benchmark.json` give them now."""

    def part(marks: re.Match[str]) -> str:
        return f"{marks[1]}{chr(10).join(PARTS[marks[2]]()).strip()}\n{marks[3]}"

    return MARKED.sub(part, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renew(page.read_text(encoding="utf-8")), encoding="utf-8")
