"""The command `compare`: which of two runs is better."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from digit_recognizer.cli.options import JSON, OUT, RUN, option
from digit_recognizer.cli.terminal import done, json_result, result, results
from digit_recognizer.errors import OptionError
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
    """Say whether the first run is better, and how sure that is.

    Paired on the digits that both held out: McNemar's mid-p test. Runs on other splits of the same digits are
    compared as well, less sharply. The two fitted models are compared; other seeds of their recipes may
    differ.
    """
    from digit_recognizer import comparison, runs

    if data_dir and not with_report:
        raise OptionError("--data-dir is for --report, as nothing else reads the digits; give both")
    if with_report:
        runs.check_outside(out)
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
            from digit_recognizer import reports

            page = reports.write_differences(pair, names, compared, said, out, data_dir)
        if as_json:
            json_result(**compared.to_json(), report=page)
        elif page:
            result(page)


def lines(names: Sequence[str], rows: int, compared: "Comparison") -> Iterator[str]:
    """Yield in words how two runs on so many training digits compare; the verdict comes last."""
    first, second = names
    for name, estimate in zip(names, compared.estimates, strict=True):
        score = estimate.score
        accuracy = f"{score.accuracy:.4f} ({score.low:.4f} to {score.high:.4f})"
        yield f"{name}: validation accuracy {accuracy}, from {estimate.digits:,} held-out digits"
    interval = f"({compared.low:+.4f} to {compared.high:+.4f}), p = {compared.p:.2g} ({compared.test})"
    yield f"difference of these accuracies: {compared.difference:+.4f} {interval}"
    if compared.log_loss:
        loss, error = compared.log_loss
        yield (
            f"On the {compared.common:,} digits that both held out, {first} alone is right for "
            f"{len(compared.only_first):,}, {second} alone for {len(compared.only_second):,}; "
            f"difference of the log loss (less is better): {loss:+.4f} ± {error:.4f}"
        )
    cannot = f"The held-out digits cannot tell {first} from {second}"
    if compared.verdict == "equal":
        yield f"{first} and {second} are equal: the same probabilities for the same digits"
    elif compared.verdict != "cannot tell":
        fitted = "as they are fitted; other seeds of their recipes may differ"
        yield f"{first} is {compared.verdict} than {second}, {fitted}"
    elif compared.needed is None:
        sharper = "; runs that held out the same digits are compared more sharply"
        yield f"{cannot}{sharper if compared.difference else ''}"
    else:
        about = int(float(f"{compared.needed:.1e}"))
        enough = ", more than there are" if compared.needed > rows else f"; --folds holds out {rows:,}"
        yield f"{cannot}: to find such a difference takes about {about:,} held-out digits{enough}"
