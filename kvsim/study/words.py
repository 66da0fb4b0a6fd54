"""How studies are told: their words, and the frame of their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from kvsim.record.labels import number, percent

Found = Mapping[str, Any]
LABELLED = (("unified", "unified"), ("pd", "PD"))
"""Names and labels."""


def plus_minus(found: Mapping[str, Any]) -> str:
    """Mean and half width, in one unit."""
    half_width = found["half_width"]
    return number(found["mean"]) if half_width is None else f"{number(found['mean'])} ± {number(half_width)}"


def preamble(studies: Mapping[str, Found]) -> str:
    """How to read all of them."""
    shares = {study["tie_share"] for study in studies.values()}
    said = [f"Studies: a tie is a difference surely below {100 * max(shares):g}%, an open one is not told apart."]
    if any(study["instances"] < study["of_instances"] for study in studies.values()):
        said.append("They run on fewer instances than the run above, so compare within a table only.")
    trace = max(study["trace_requests"] or 0 for study in studies.values())
    if trace:
        laid = ", which is laid end to end where that is too short"
        said.append(f"Each run serves another part of the {trace:,} requests of the trace{laid}.")
    return " ".join(said)


def said_of(apart: Mapping[str, Any], unit: str = " ms") -> str:
    """A difference in words; with its half width where that is not as narrow as was wanted."""
    verdict: str = apart["verdict"]
    if verdict in ("same", "tie"):
        return "a tie"
    if verdict == "open":
        return "not told apart"
    width = "" if apart["precise"] else f" ± {number(apart['half_width'])}"
    return f"{signed(apart['mean'])}{width}{unit}"


def budget_spent(study: Found) -> str:
    """What to add to a sentence where the budget ended the runs."""
    if study["within_budget"]:
        return ""
    return f"; the budget of runs ended before each difference was known to {100 * study['precision']:g}% of itself"


def overloaded_there(study: Found) -> str:
    """What to add to a sentence where the run's rate is more than the study's own runs can take."""
    beyond = [f"{label} {percent(load)}" for label, load in _loads(study) if load > 1]
    if not beyond:
        return ""
    asked = f"by arithmetic these runs ask for more than they can serve ({', '.join(beyond)})"
    return f"; {asked}: times grow with their length"


def _loads(study: Found) -> list[tuple[str, float]]:
    return [(label, study["loads"][name]) for name, label in LABELLED if name in study["loads"]]


def signed(value: float) -> str:
    """With its sign, plus included."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def table_of(title: str, columns: Sequence[str], *, names: bool = True) -> Table:
    """An empty table; ``names``: its first column has words, else numbers."""
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        min_width=max(map(len, title.splitlines())),
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index or not names else "left", overflow="fold")
    return table


def ran_on(study: Found) -> str:
    """On what, with how many requests, in a picture of single runs or of means."""
    return f"{study['instances']} instances, {study['requests']:,} requests"


def ran_of(study: Found) -> str:
    """On how many instances, how often."""
    return f"{instances_of(study)}, {runs_of(study)}"


def sample_of(study: Found) -> str:
    """As ``ran_of``, with the confidence of what stands in the table."""
    return f"{instances_of(study)}\n{runs_of(study)}, {percent(study['confidence'])} intervals"


def instances_of(study: Found) -> str:
    """How many of the cluster's."""
    here, whole = study["instances"], study["of_instances"]
    return f"on {here:,} of the {whole:,} instances" if here < whole else f"on all {whole:,} instances"


def runs_of(study: Found) -> str:
    """How often each variant was run."""
    fewest, most = study["fewest_replications"], study["replications"]
    runs = f"{fewest} runs of each" if fewest == most else f"{fewest} to {most} runs of each"
    return f"{runs}, {study['requests']:,} requests a run" if "requests" in study else runs


def at_rate(study: Found) -> str:
    """How hard the rate of the run above drives these runs, by their own hits."""
    loads = ", ".join(f"{label} {percent(load)}" for label, load in _loads(study))
    return f"at the run's rate, there {loads} of the maximum,\n{sample_of(study)}"


def change(apart: Mapping[str, Any]) -> str:
    """A difference in a table."""
    verdict: str = apart["verdict"]
    if verdict in ("same", "tie"):
        return verdict
    width = f" ± {number(apart['half_width'])}" if apart["half_width"] is not None else ", one run"
    return f"{signed(apart['mean'])}{width}" if apart["mean"] is not None else number(None)


def growing_there(*runs: tuple[str, Mapping[str, Any]]) -> str:
    """What to add to a sentence where most runs of some memory were overloaded, named by it."""
    over = [name for name, found in runs if found["growing_share"] >= 0.5]
    if not over:
        return ""
    return f"; {', '.join(over)}: the run's rate is too much there, and TTFT grows with the length of runs"


def saved_width(saved: Mapping[str, Any]) -> str:
    """What is saved, as a number above zero; with its half width where that is not as narrow as was wanted."""
    width = "" if saved["precise"] else f" ± {number(saved['half_width'])}"
    return f"{number(-saved['mean'])}{width}"


def scale_of(study: Found) -> str:
    return f"{instances_of(study)}, {study['requests']:,} requests a run"
