"""The command `compare`: which of two runs is better."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from digit_recognizer.cli.options import JSON, OUT, RUN, option
from digit_recognizer.cli.terminal import done, result, results
from digit_recognizer.job import StoredRun

if TYPE_CHECKING:
    from digit_recognizer.comparison import Comparison


@click.command()
@click.argument("first", metavar="RUN", type=RUN)
@click.argument("second", metavar="RUN", type=RUN)
@click.option("--report", "with_report", is_flag=True, help="Write a page of the digits that they differ on.")
@option(StoredRun, "data_dir")
@OUT
@JSON
def compare(
    first: str, second: str, with_report: bool, data_dir: Path | None, out: Path, as_json: bool
) -> None:
    """Say whether the first run is better than the second, and how sure that is.

    Paired on the digits that both held out: McNemar's mid-p test. Runs on other splits of the same digits are
    compared as well, less sharply. The two fitted models are compared; other seeds of their recipes may
    differ.
    """
    from digit_recognizer import comparison, runs

    pair = runs.find(out, first), runs.find(out, second)
    names = [run.folder.resolve().name for run in pair]
    if names[0] == names[1]:
        names = [str(run.folder) for run in pair]
    compared = comparison.compare(*pair)
    said = list(lines(names, pair[0].manifest.config.data.rows.train, compared))
    with done("The runs are compared."):
        if not as_json:
            results(said)
        page = None
        if with_report:
            from digit_recognizer.reports import differences

            page = differences.write(pair, names, compared, said, out, data_dir)
        if as_json:
            result(json.dumps({**compared.to_json(), "report": page and str(page)}))
        elif page:
            result(page)


def lines(names: Sequence[str], rows: int, compared: "Comparison") -> Iterator[str]:
    """Yield in words how two runs on so many training digits compare."""
    for name, score in zip(names, compared.scores, strict=True):
        yield f"{name}: validation accuracy {score.accuracy:.4f} ({score.low:.4f} to {score.high:.4f})"
    yield (
        f"difference: {compared.difference:+.4f} ({compared.low:+.4f} to {compared.high:+.4f}), "
        f"p = {compared.p:.2g}"
    )
    if compared.common:
        yield (
            f"{compared.common:,} digits were held out by both: {names[0]} alone predicts "
            f"{len(compared.only_first):,} of them right, {names[1]} alone {len(compared.only_second):,}"
        )
    if compared.log_loss:
        change, error = compared.log_loss
        yield f"log loss on them: {change:+.4f} ± {error:.4f}"
    yield _verdict(names, rows, compared)


def _verdict(names: Sequence[str], rows: int, compared: "Comparison") -> str:
    first, second = names
    if compared.verdict == "equal":
        return f"{first} and {second} are equal: the same probabilities for the same digits"
    if compared.verdict != "cannot tell":
        return (
            f"{first} is {compared.verdict} than {second}, as they are fitted; other seeds of their recipes "
            "may differ"
        )
    said = f"The held-out digits cannot tell {first} from {second}"
    if compared.needed is None:
        return f"{said}; on the same ones, runs are compared more sharply" if compared.difference else said
    said += f": to find such a difference takes about {_round(compared.needed):,} held-out digits"
    return f"{said}, more than there are" if compared.needed > rows else f"{said}; --folds holds out {rows:,}"


def _round(count: int) -> int:
    """Return two significant digits of an estimated number."""
    return int(float(f"{count:.1e}"))
