"""The studies of a run on the terminal: a table and a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsim.report.labels import number, percent, ratio
from kvsim.report.whole import print_whole

Study = Mapping[str, Any]
_NAME_COLUMNS = 16
"""A longer setting and its value stand one below the other."""


def print_studies(console: Console, studies: Mapping[str, Study]) -> None:
    """Print every study of ``report["studies"]``."""
    printers = {
        "compare": _compare,
        "pd_ratio": _pd_ratio,
        "transfer": _transfer,
        "unified_budget": _unified_budget,
        "context": _context,
    }
    if studies:
        console.print(Text(preamble(studies)))
        console.print()
    for name, study in studies.items():
        table, sentence = printers[name](study)
        print_whole(console, table)
        console.print(Text(sentence, style="bold"))
        console.print()


def plus_minus(found: Mapping[str, Any]) -> str:
    """Mean and half width, in one unit."""
    half_width = found["half_width"]
    return number(found["mean"]) if half_width is None else f"{number(found['mean'])} ± {number(half_width)}"


def preamble(studies: Mapping[str, Study]) -> str:
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


def budget_spent(study: Study) -> str:
    """What to add to a sentence where the budget ended the runs."""
    if study["within_budget"]:
        return ""
    return f"; the budget of runs ended before each difference was known to {100 * study['precision']:g}% of itself"


def overloaded_there(study: Study) -> str:
    """What to add to a sentence where the run's rate is more than the study's own runs can take."""
    beyond = [f"{label} {percent(load)}" for label, load in _loads(study) if load > 1]
    if not beyond:
        return ""
    asked = f"by arithmetic these runs ask for more than they can serve ({', '.join(beyond)})"
    return f"; {asked}: times grow with their length"


def _loads(study: Study) -> list[tuple[str, float]]:
    return [(label, study["loads"][name]) for name, label in _SYSTEMS if name in study["loads"]]


def compare_sentence(study: Study) -> str:
    """Which values change mean TTFT, of which system, by how much."""
    said = []
    for key in study["keys"]:
        for row in key["rows"]:
            apart = {label: row[f"{name}_difference"] for name, label in _SYSTEMS}
            changes = [
                f"{label} {said_of(found['ttft_mean_ms'])}"
                for label, found in apart.items()
                if not found["ttft_mean_ms"]["tie"]
            ]
            verdicts = {metric["verdict"] for found in apart.values() for metric in found.values()}
            why = f": {row['unseen']}" if row["unseen"] else ""
            none = f"changes nothing{why}" if verdicts == {"same"} else "a tie"
            said.append(f"{setting(key['key'], row['value'])}: {', '.join(changes) or none}")
    return f"mean TTFT against the run as configured: {'; '.join(said)}{overloaded_there(study)}{budget_spent(study)}"


def setting(key: str, value: Any) -> str:
    """A compared value with the last part of its key."""
    words = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    return f"{key.rpartition('.')[2]}={words}"


def signed(value: float) -> str:
    """With its sign, plus included."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def pd_ratio_sentence(study: Study) -> str:
    """Which ratio serves most, and whether that is where the arithmetic puts it."""
    points = study["points"]
    best = next(point for point in points if point["best"])
    near = [
        f", {words} {', '.join(ratio(point['ratio']) for point in points if point[which])}"
        for which, words in (("tie", "tied with"), ("open", "not told apart from"))
        if any(point[which] for point in points)
    ]
    needed = study["requests_needed"]
    cut = f"; runs of {study['requests']:,} requests are not steady" if study["requests"] < needed else ""
    more = ", ".join(map(ratio, study["unsaturated"]))
    offered = f"the {number(study['offered_requests_per_s'])} requests/s offered"
    unfilled = f"; by arithmetic {more} could take more than {offered}" if more else ""
    return (
        f"P:D {ratio(best['ratio'])} serves most at saturation, {plus_minus(best['throughput_requests_per_s'])} "
        f"requests/s on {study['instances']} instances{''.join(near)}; by arithmetic, each with its own "
        f"hits, {ratio(study['balanced'])} does{unfilled}{cut}"
    )


def transfer_sentence(study: Study) -> str:
    """What changes mean TTFT, and what does not."""
    rows = study["rows"][1:]
    real = [row for row in rows if not row["tie"]]
    if not real:
        return f"mean TTFT: every way to move KV ties with the configured one{overloaded_there(study)}"
    said = ", ".join(f"{row['name']} {said_of(row['ttft_mean_difference_ms'])}" for row in real)
    others = "; the others tie" if len(real) < len(rows) else ""
    return f"mean TTFT against the configured transfer: {said}{others}{overloaded_there(study)}{budget_spent(study)}"


def unified_budget_sentence(study: Study) -> str:
    """Which token budgets keep more or less within the SLO than the one that unified ran with."""
    used = next(row for row in study["rows"] if row["used"])
    others = [row for row in study["rows"] if not row["used"]]
    said = []
    for row in others:
        apart = row["good_share_difference"]
        if apart["verdict"] == "open":
            said.append(f"{row['max_num_batched_tokens']:,} is not told apart")
        elif not row["tie"]:
            width = "" if apart["precise"] else f" ± {number(100 * apart['half_width'])}"
            points = f"{number(abs(100 * apart['mean']))}{width} points {_side(apart['mean'])}"
            said.append(f"{row['max_num_batched_tokens']:,} has {points}")
    if others and len(said) < len(others):
        said.append("the others tie in that")
    share = percent(used["good_share"]["mean"])
    head = f"unified with {used['max_num_batched_tokens']:,} tokens a step: {share} within the SLO"
    return "; ".join([head, *said]) + overloaded_there(study) + budget_spent(study)


def _side(apart: float) -> str:
    return "more" if apart > 0 else "less"


def context_sentence(study: Study) -> str:
    """Who has the lower mean TTFT at each length, by how much of the other's."""
    if not study["rows"]:
        return "no context length fits an instance"
    said = []
    for row in study["rows"]:
        apart, means = row["pd_minus_unified"]["ttft_mean_ms"], [row[n]["ttft_mean_ms"]["mean"] for n, _ in _SYSTEMS]
        words = said_of(apart)
        if apart["verdict"] in ("lower", "higher"):
            width = "" if apart["precise"] else f" ± {percent(apart['half_width'] / max(means))}"
            words = f"{'PD' if apart['mean'] < 0 else 'unified'} by {percent(abs(apart['mean']) / max(means))}{width}"
        said.append(f"{row['context_tokens']:,} tokens: {words}")
    same = "the same rate and GPUs, PD at the ratio that suits each length"
    return f"lower mean TTFT at {same}: {'; '.join(said)}{budget_spent(study)}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
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
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table


def _sample(study: Study) -> str:
    return f"{instances_of(study)}\n{runs_of(study)}, {percent(study['confidence'])} intervals"


def instances_of(study: Study) -> str:
    """How many of the cluster's."""
    here, whole = study["instances"], study["of_instances"]
    return f"on {here:,} of the {whole:,} instances" if here < whole else f"on all {whole:,} instances"


def runs_of(study: Study) -> str:
    """How often each variant was run."""
    fewest, most = study["fewest_replications"], study["replications"]
    runs = f"{fewest} runs of each" if fewest == most else f"{fewest} to {most} runs of each"
    return f"{runs}, {study['requests']:,} requests a run" if "requests" in study else runs


def _at_rate(study: Study) -> str:
    """Of runs at the rate of the run above: how hard that drives them, by their own hits."""
    loads = ", ".join(f"{label} {percent(load)}" for label, load in _loads(study))
    return f"at the run's rate, there {loads} of the maximum,\n{_sample(study)}"


def _compare(study: Study) -> tuple[Table, str]:
    columns = ("ms", "TTFT", "change", "p99", "TPOT", "change", "hits")
    table = _table(f"Other settings {_at_rate(study)}", columns)
    table.add_row("configured")
    for name, label in _SYSTEMS:
        table.add_row(f"  {label}", *_compared(study["configured"][name], None))
    for key in study["keys"]:
        for row in key["rows"]:
            name = setting(key["key"], row["value"])
            table.add_row(Text(name if len(name) <= _NAME_COLUMNS else name.replace("=", "=\n", 1)))
            for name, label in _SYSTEMS:
                table.add_row(f"  {label}", *_compared(row[name], row[f"{name}_difference"]))
    return table, compare_sentence(study)


_SYSTEMS = (("unified", "unified"), ("pd", "PD"))


def _compared(found: Mapping[str, Any], apart: Mapping[str, Any] | None) -> Iterator[str]:
    for metric, also in (("ttft_mean_ms", "ttft_p99_ms"), ("tpot_mean_ms", None)):
        yield number(found[metric]["mean"])
        if apart is None:
            yield ""
        else:
            yield change(apart[metric])
        if also is not None:
            yield number(found[also]["mean"])
    yield percent(found["prefix_hit_rate"]["mean"])


def change(apart: Mapping[str, Any]) -> str:
    """A difference in a table."""
    verdict: str = apart["verdict"]
    if verdict in ("same", "tie"):
        return verdict
    width = f" ± {number(apart['half_width'])}" if apart["half_width"] is not None else ", one run"
    return f"{signed(apart['mean'])}{width}" if apart["mean"] is not None else number(None)


def _pd_ratio(study: Study) -> tuple[Table, str]:
    title = f"Prefill:decode ratio at saturation, {_sample(study)}"
    table = _table(title, ("P:D", "requests/s", "behind the best", "analytic, own hits", ""))
    for point in study["points"]:
        marks = [word for word in ("best", "tie", "open", "balanced", "configured") if point[word]]
        behind = "" if point["best"] else change(point["difference_to_best"])
        table.add_row(
            ratio(point["ratio"]),
            plus_minus(point["throughput_requests_per_s"]),
            behind,
            number(point["analytic_requests_per_s"]),
            ", ".join(marks),
        )
    return table, pd_ratio_sentence(study)


def _transfer(study: Study) -> tuple[Table, str]:
    columns = ("ms", "TTFT", "difference", "p99", "transfer", "hidden", "NIC")
    table = _table(f"Ways to move KV {_at_rate(study)}", columns)
    for row in study["rows"]:
        table.add_row(
            row["name"],
            number(row["ttft_mean_ms"]["mean"]),
            "" if row["name"] == "as configured" else change(row["ttft_mean_difference_ms"]),
            number(row["ttft_p99_ms"]["mean"]),
            number(row["transfer_mean_ms"]["mean"]),
            percent(row["hidden_share"]["mean"]),
            percent(row["nic_out_utilisation"]["mean"]),
        )
    return table, transfer_sentence(study)


def _unified_budget(study: Study) -> tuple[Table, str]:
    columns = ("tokens a step; ms", "TTFT mean", "p99", "TPOT mean", "p99", "within SLO", "points")
    table = _table(f"Unified's token budget {_at_rate(study)}", columns)
    for row in study["rows"]:
        table.add_row(
            f"{row['max_num_batched_tokens']:,}",
            number(row["ttft_mean_ms"]["mean"]),
            number(row["ttft_p99_ms"]["mean"]),
            number(row["tpot_mean_ms"]["mean"]),
            number(row["tpot_p99_ms"]["mean"]),
            percent(row["good_share"]["mean"]),
            "used" if row["used"] else _points(row["good_share_difference"]),
        )
    return table, unified_budget_sentence(study)


def _points(apart: Mapping[str, Any]) -> str:
    scaled = {name: None if apart[name] is None else 100 * apart[name] for name in ("mean", "half_width")}
    return change({**apart, **scaled})


def _context(study: Study) -> tuple[Table, str]:
    title = f"Context length at {number(study['load'])} of the smaller maximum, {_sample(study)}"
    table = _table(title, ("prompt tokens", "", "unified", "PD", "better"))
    for row in study["rows"]:
        load, left = row["load"], iter((f"at {number(row['requests_per_s'])}/s",))
        ran = f"{percent(load['pd'])}, P:D {ratio(row['pd_ratio'])}"
        table.add_row(f"{row['context_tokens']:,}", "load", percent(load["unified"]), ran, "")
        for label, metric in _CONTEXT_METRICS:
            table.add_row(
                next(left, ""),
                label,
                plus_minus(row["unified"][metric]),
                plus_minus(row["pd"][metric]),
                _better(row["pd_minus_unified"][metric]),
            )
    return table, context_sentence(study)


_CONTEXT_METRICS = (
    ("TTFT mean (ms)", "ttft_mean_ms"),
    ("TTFT p99 (ms)", "ttft_p99_ms"),
    ("TPOT mean (ms)", "tpot_mean_ms"),
)


def _better(apart: Mapping[str, Any]) -> str:
    """Who has the lower figure."""
    return {"lower": "PD", "higher": "unified"}.get(apart["verdict"], str(apart["verdict"]))


def sentences(studies: Mapping[str, Study]) -> Iterator[str]:
    """The conclusion of every study."""
    said = {
        "compare": compare_sentence,
        "pd_ratio": pd_ratio_sentence,
        "transfer": transfer_sentence,
        "unified_budget": unified_budget_sentence,
        "context": context_sentence,
    }
    for name, study in studies.items():
        yield said[name](study)
