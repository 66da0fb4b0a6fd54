"""The files of a run that people and other programs read: a table, sentences, a picture, all of it as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kvsim._version import __version__
from kvsim.experiments.files import Writer, csv_of, write_each, write_text
from kvsim.failures import Failures
from kvsim.lab.kv.analysis.analysis import Analysis, analyse
from kvsim.lab.kv.analysis.figure import run_figure
from kvsim.lab.kv.trial import Trials
from kvsim.record.plain import plain
from kvsim.report.json_report import write_json
from kvsim.report.plots import write_figure

SUMMARY, INTERVALS, KEY_RESULTS, FIGURE = "summary.csv", "intervals.md", "key-results.md", "figure.png"
RESULT = "lab-result.json"
FORM = "kvsim lab result"


def write_report(folder: Path, found: Trials, failures: Failures, *, plots: bool) -> str:
    """Write what follows from the rows into the existing ``folder``; what fails is among ``failures`` and costs itself.

    Returns the conclusion, a line a sentence.
    """
    known = failures.attempt("analysis", lambda: analyse(found))
    if known is None:
        return ""
    writers: dict[str, Writer] = {
        SUMMARY: lambda path: write_text(path, csv_of([row.line() for row in known.summary])),
        INTERVALS: lambda path: write_text(path, _intervals(known)),
        KEY_RESULTS: lambda path: write_text(path, _key_results(known)),
        RESULT: lambda path: write_json(path, as_json(known)),
    }
    if plots:
        writers[FIGURE] = lambda path: write_figure(path, run_figure(known))
    write_each(folder, writers, failures)
    return "\n".join(known.conclusion())


def as_json(found: Analysis) -> dict[str, object]:
    """Everything that is known of a run but its rows."""
    run = found.rows.trials
    tables = ("summary", "effects", "order", "growth", "stability", "hits", "capacity", "memory_curve", "bounds")
    return {
        "form": FORM,
        "kv_lab": run.name,
        "question": found.design.question,
        "conclusion": list(found.conclusion()),
        "version": __version__,
        "backend": run.backend,
        "repeats": found.rows.repeats,
        "design": dict(run.design),
        "server": dict(run.server),
        "notes": list(run.notes),
        "key_results": list(found.key_results()),
        **{name: plain(getattr(found, name)) for name in (*tables, "batch", "percentiles")},
    }


def _intervals(found: Analysis) -> str:
    head = [
        f"# {found.rows.trials.name}: differences and their intervals",
        "",
        f"Backend {found.rows.trials.backend}, kvsim {__version__}. A repeat is the unit; where there is one "
        "repeat only, pairs of requests are, and the sentence says that it holds for this repeat alone.",
        "",
    ]
    return _page(head, found.intervals(), "The design compares nothing.")


def _key_results(found: Analysis) -> str:
    run = found.rows.trials
    head = [f"# {run.name}", "", found.design.question, "", f"Backend {run.backend}, kvsim {__version__}.", ""]
    return _page(head, [*found.key_results(), *(f"note: {note}" for note in run.notes)], "Nothing can be told.")


def _page(head: Iterable[str], lines: Iterable[str], without: str) -> str:
    told = [f"- {line}" for line in lines] or [without]
    return "\n".join([*head, *told]) + "\n"
