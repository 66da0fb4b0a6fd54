"""The studies of a run on the terminal: a table and a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsim.report.labels import number, percent, ratio

Study = Mapping[str, Any]


def print_studies(console: Console, studies: Mapping[str, Study]) -> None:
    """Print every study of ``report["studies"]``."""
    printers = {
        "compare": _compare,
        "pd_ratio": _pd_ratio,
        "transfer": _transfer,
        "unified_budget": _unified_budget,
        "context": _context,
    }
    for name, study in studies.items():
        table, sentence = printers[name](study)
        console.print(table)
        console.print(Text(sentence, style="bold"))
        console.print()


def plus_minus(found: Mapping[str, Any]) -> str:
    """Mean and half width, in one unit."""
    half_width = found["half_width"]
    return number(found["mean"]) if half_width is None else f"{number(found['mean'])} ± {number(half_width)}"


def compare_sentence(study: Study) -> str:
    """Which values change mean TTFT, of which system, by how much."""
    said = []
    for key in study["keys"]:
        for row in key["rows"]:
            changes = [
                f"{label} {signed(row[f'{name}_difference']['ttft_mean_ms']['mean'])} ms"
                for name, label in _SYSTEMS
                if not row[f"{name}_difference"]["ttft_mean_ms"]["tie"]
            ]
            said.append(f"{setting(key['key'], row['value'])}: {', '.join(changes) or 'a tie'}")
    return f"mean TTFT against the run as configured: {'; '.join(said)}"


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
    tied = [ratio(point["ratio"]) for point in points if point["tie"]]
    ties = f", tied with {', '.join(tied)}" if tied else ""
    needed = study["requests_needed"]
    cut = f"; runs of {study['requests']:,} requests are not steady" if study["requests"] < needed else ""
    return (
        f"P:D {ratio(best['ratio'])} serves most at saturation, {plus_minus(best['throughput_requests_per_s'])} "
        f"requests/s on {study['instances']} instances{ties}; by arithmetic {ratio(study['balanced'])} balances the two"
        f"{cut}"
    )


def transfer_sentence(study: Study) -> str:
    """What changes mean TTFT, and what does not."""
    rows = study["rows"][1:]
    real = [row for row in rows if not row["tie"]]
    if not real:
        return "mean TTFT: every way to move KV ties with the configured one"
    said = ", ".join(f"{row['name']} {number(row['ttft_mean_difference_ms']['mean'])} ms" for row in real)
    return f"mean TTFT against the configured transfer: {said}; the others tie"


def unified_budget_sentence(study: Study) -> str:
    """Which token budgets keep more or less within the SLO than the one that unified ran with."""
    used = next(row for row in study["rows"] if row["used"])
    said = []
    for row in study["rows"]:
        apart = row["good_share_difference"]["mean"] * 100
        if not row["used"] and not row["tie"]:
            said.append(f"{row['max_num_batched_tokens']:,} has {number(abs(apart))} points {_side(apart)}")
    others = "; ".join(said) if said else "the others tie in that"
    share = percent(used["good_share"]["mean"])
    return f"unified with {used['max_num_batched_tokens']:,} tokens a step: {share} within the SLO; {others}"


def _side(apart: float) -> str:
    return "more" if apart > 0 else "less"


def context_sentence(study: Study) -> str:
    """Who has the lower mean TTFT at each length."""
    said = []
    for row in study["rows"]:
        apart = row["pd_minus_unified"]["ttft_mean_ms"]
        winner = "a tie" if apart["tie"] else ("PD" if apart["mean"] < 0 else "unified")
        said.append(f"{row['context_tokens']:,} tokens: {winner}")
    return f"lower mean TTFT at the same load: {'; '.join(said)}" if said else "no context length fits an instance"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if not index else "right")
    return table


def _sample(study: Study) -> str:
    runs, sure = study["replications"], percent(study["confidence"])
    return f"{study['instances']} instances, {runs} runs each, {sure} intervals"


def _compare(study: Study) -> tuple[Table, str]:
    columns = ("ms", "TTFT mean", "change", "p99", "TPOT mean", "change", "hits")
    table = _table(f"Other settings at the run's load ({_sample(study)})", columns)
    table.add_row("as configured")
    for name, label in _SYSTEMS:
        table.add_row(f"  {label}", *_compared(study["configured"][name], None))
    for key in study["keys"]:
        for row in key["rows"]:
            table.add_row(Text(setting(key["key"], row["value"])))
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
            yield "tie" if apart[metric]["tie"] else signed(apart[metric]["mean"])
        if also is not None:
            yield number(found[also]["mean"])
    yield percent(found["prefix_hit_rate"]["mean"])


def _pd_ratio(study: Study) -> tuple[Table, str]:
    title = f"Prefill:decode ratio at saturation ({_sample(study)})"
    table = _table(title, ("P:D", "requests/s", "behind the best", "analytic", ""))
    for point in study["points"]:
        marks = [word for word in ("best", "tie", "balanced", "configured") if point[word]]
        behind = "" if point["best"] else plus_minus(point["difference_to_best"])
        table.add_row(
            ratio(point["ratio"]),
            plus_minus(point["throughput_requests_per_s"]),
            behind,
            number(point["analytic_requests_per_s"]),
            ", ".join(marks),
        )
    return table, pd_ratio_sentence(study)


def _transfer(study: Study) -> tuple[Table, str]:
    columns = ("ms", "TTFT mean", "difference", "p99", "transfer", "hidden", "NIC busy")
    table = _table(f"Ways to move KV at the run's load ({_sample(study)})", columns)
    for row in study["rows"]:
        apart = row["ttft_mean_difference_ms"]
        table.add_row(
            row["name"],
            number(row["ttft_mean_ms"]["mean"]),
            "" if row["name"] == "as configured" else ("tie" if row["tie"] else plus_minus(apart)),
            number(row["ttft_p99_ms"]["mean"]),
            number(row["transfer_mean_ms"]["mean"]),
            percent(row["hidden_share"]["mean"]),
            percent(row["nic_out_utilisation"]["mean"]),
        )
    return table, transfer_sentence(study)


def _unified_budget(study: Study) -> tuple[Table, str]:
    columns = ("tokens a step; ms", "TTFT mean", "p99", "TPOT mean", "p99", "within SLO", "")
    table = _table(f"Unified's token budget at the run's load ({_sample(study)})", columns)
    for row in study["rows"]:
        table.add_row(
            f"{row['max_num_batched_tokens']:,}",
            number(row["ttft_mean_ms"]["mean"]),
            number(row["ttft_p99_ms"]["mean"]),
            number(row["tpot_mean_ms"]["mean"]),
            number(row["tpot_p99_ms"]["mean"]),
            percent(row["good_share"]["mean"]),
            "used" if row["used"] else ("tie" if row["tie"] else ""),
        )
    return table, unified_budget_sentence(study)


def _context(study: Study) -> tuple[Table, str]:
    title = f"Context length at {number(study['load'])} of PD's maximum ({_sample(study)})"
    table = _table(title, ("prompt tokens", "", "unified", "PD", "better"))
    for row in study["rows"]:
        for label, metric, lower in _CONTEXT_METRICS:
            first = label == _CONTEXT_METRICS[0][0]
            table.add_row(
                f"{row['context_tokens']:,}" if first else "",
                label,
                plus_minus(row["unified"][metric]),
                plus_minus(row["pd"][metric]),
                _better(row["pd_minus_unified"][metric], lower),
            )
    return table, context_sentence(study)


_CONTEXT_METRICS = (
    ("TTFT mean (ms)", "ttft_mean_ms", True),
    ("TTFT p99 (ms)", "ttft_p99_ms", True),
    ("TPOT mean (ms)", "tpot_mean_ms", True),
    ("requests/s", "throughput_requests_per_s", False),
)


def _better(apart: Mapping[str, Any], lower: bool) -> str:
    if apart["tie"]:
        return "tie"
    return "PD" if (apart["mean"] < 0) == lower else "unified"


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
