"""What one setting changes: any number of its values side by side with the configured one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from kvsim.config import Config, dump
from kvsim.config.comparison import STEPWISE, Comparison
from kvsim.config.effect import why_unseen
from kvsim.config.load import changed
from kvsim.plan.plan import Plan, make_plan
from kvsim.record.labels import number, percent
from kvsim.record.result import SystemResult
from kvsim.sim.routing import check_policies
from kvsim.sim.run import SYSTEMS, Case
from kvsim.study.answer import DrivenAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import LOAD, latencies, own_load, throughput_per_s
from kvsim.study.pictures import BLUE, GREEN, ORANGE, bars_of, drawn, legend_below, plain_numbers
from kvsim.study.replication import Apart, Figures, Replicated
from kvsim.study.words import LABELLED, at_rate, budget_spent, change, overloaded_there, said_of, table_of
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""

Setting = tuple[int, str]
"""Which comparison, and which of its values."""
Arm = tuple[Setting, str]
"""A setting, and the system that runs with it."""
CONFIGURED: Setting = (-1, "")


Means = Mapping[str, Interval]
"""By the name of a figure, as differences are."""
Differences = Mapping[str, Apart]


@dataclass(frozen=True, kw_only=True)
class ValueRow:
    """Both systems with another value, and their differences to the run as configured."""

    value: object
    unseen: str | None
    """Why nothing can come of it, where that is known."""
    unified: Means
    unified_difference: Differences
    unified_runs: int
    pd: Means
    pd_difference: Differences
    pd_runs: int

    @property
    def means(self) -> dict[str, Means]:
        """By system."""
        return {"unified": self.unified, "pd": self.pd}

    @property
    def differences(self) -> dict[str, Differences]:
        """By system."""
        return {"unified": self.unified_difference, "pd": self.pd_difference}


@dataclass(frozen=True, kw_only=True)
class ComparedKey:
    """A setting, and every value that was asked for."""

    key: str
    configured: object
    rows: tuple[ValueRow, ...]


@dataclass(frozen=True, kw_only=True)
class CompareAnswer(DrivenAnswer):
    """Every setting, beside the run as configured."""

    configured: Mapping[str, Means]
    """By system."""
    keys: tuple[ComparedKey, ...]


def compare_study(context: StudyContext) -> CompareAnswer:
    """The report's ``studies.compare``: both systems with each value, paired with the same run as configured.

    ``loads``: what share of its maximum rate either was offered in these runs as configured.
    """
    comparisons, rate_per_s = context.comparisons, context.sample_requests_per_s
    num_requests = context.requests_at(context.sample, rate_per_s, FACTOR)
    plans: dict[Setting, Plan] = {CONFIGURED: context.sample}
    for at, comparison in enumerate(comparisons):
        for value in comparison.values:
            plans[at, str(value)] = variant(context.plan, comparison, value, context.sample.num_gpus)

    def case_of(arm: Arm, workload: Workload, seed: int) -> Case:
        (at, value), name = arm
        label = "as configured" if arm[0] == CONFIGURED else f"{comparisons[at].key} = {value}"
        return context.case(label, name, plans[arm[0]], workload, seed)

    arms: list[Arm] = [(which, name) for which in plans for name in SYSTEMS]
    found = context.replicate(
        arms,
        lambda arm, _: (CONFIGURED, arm[1]),
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        case_of,
        lambda arm, workload, result: {
            **_figures(result),
            **(own_load(context.sample, workload, result) if arm[0] == CONFIGURED else {}),
        },
        context.goal("ttft_mean_ms"),
    )
    return CompareAnswer(
        size=context.size(context.sample),
        runs=found.runs,
        requests=found.requests_a_run,
        requests_per_s=rate_per_s,
        loads={name: found.means((CONFIGURED, name), (LOAD,))[LOAD].mean for name in SYSTEMS},
        configured={name: found.means((CONFIGURED, name)) for name in SYSTEMS},
        keys=tuple(
            ComparedKey(
                key=comparison.key,
                configured=_configured(context.plan, comparison.key),
                rows=tuple(
                    _row(found, (at, str(value)), value, why_unseen(plans[at, str(value)].config, comparison.key))
                    for value in comparison.values
                ),
            )
            for at, comparison in enumerate(comparisons)
        ),
    )


def variant(plan: Plan, comparison: Comparison, value: Any, num_gpus: int) -> Plan:
    """``plan`` with one value changed, on at most ``num_gpus`` GPUs. Raises ``ConfigError`` for what cannot be.

    The unified baseline keeps its token budget, unless that is what is compared.
    """
    stepwise = plan.prefill_settings.stepwise
    config: Config = plan.config
    if comparison.key == STEPWISE:
        stepwise = value
    else:
        config = changed(config, {comparison.key: value}, comparison.flag)
    made = make_plan(config, stepwise=stepwise)
    if comparison.key != "engine.max_num_batched_tokens":
        made = made.with_colocated_budget(plan.colocated_settings.max_num_batched_tokens)
    return made.scaled_to(max(2, min(made.num_instances, num_gpus // made.spec.num_gpus)))


def check_comparisons(plan: Plan, comparisons: Sequence[Comparison]) -> None:
    """Raises ``ConfigError`` for the first value that no cluster can be built with."""
    for comparison in comparisons:
        for value in comparison.values:
            check_policies(variant(plan, comparison, value, plan.num_gpus).config)


def _configured(plan: Plan, key: str) -> Any:
    if key == STEPWISE:
        return plan.prefill_settings.stepwise
    value: Any = dump(plan.config)
    for part in key.split("."):
        value = value[part]
    return value


def _row(found: Replicated[Arm], which: Setting, value: object, unseen: str | None) -> ValueRow:
    def differences(name: str) -> Differences:
        arm, base = (which, name), (CONFIGURED, name)
        return {metric: found.apart(arm, base, metric) for metric in found.figures[arm][0]}

    return ValueRow(
        value=value,
        unseen=unseen,
        unified=found.means((which, "unified")),
        unified_difference=differences("unified"),
        unified_runs=len(found.figures[which, "unified"]),
        pd=found.means((which, "pd")),
        pd_difference=differences("pd"),
        pd_runs=len(found.figures[which, "pd"]),
    )


def _figures(result: SystemResult) -> Figures:
    use = result.cache
    return {
        **latencies(result),
        "prefix_hit_rate": use.hit_tokens / use.query_tokens if use.query_tokens else 0.0,
        "throughput_requests_per_s": throughput_per_s(result),
        "preemptions": float(use.preemptions),
    }


_COMPARE_PANELS = (("ttft_mean_ms", "mean TTFT (ms)"), ("tpot_mean_ms", "mean TPOT (ms)"))
_NAME_COLUMNS = 16
"""A longer setting and its value stand one below the other."""


def compare_sentence(study: CompareAnswer) -> str:
    """Which values change mean TTFT, of which system, by how much."""
    said = []
    for key in study.keys:
        for row in key.rows:
            apart = {label: row.differences[name] for name, label in LABELLED}
            changes = [
                f"{label} {said_of(found['ttft_mean_ms'])}"
                for label, found in apart.items()
                if not found["ttft_mean_ms"].tie
            ]
            verdicts = {metric.verdict for found in apart.values() for metric in found.values()}
            why = f": {row.unseen}" if row.unseen else ""
            none = f"changes nothing{why}" if verdicts == {"same"} else "a tie"
            said.append(f"{setting(key.key, row.value)}: {', '.join(changes) or none}")
    return (
        f"mean TTFT against the run as configured: {'; '.join(said)}{overloaded_there(study)}{budget_spent(study.runs)}"
    )


def setting(key: str, value: object) -> str:
    """A compared value with the last part of its key."""
    words = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    return f"{key.rpartition('.')[2]}={words}"


def _table(study: CompareAnswer) -> Table:
    columns = ("ms", "TTFT", "change", "p99", "TPOT", "change", "hits")
    table = table_of(f"Other settings {at_rate(study)}", columns)
    table.add_row("configured")
    for name, label in LABELLED:
        table.add_row(f"  {label}", *_compared(study.configured[name], None))
    for key in study.keys:
        for row in key.rows:
            name = setting(key.key, row.value)
            table.add_row(Text(name if len(name) <= _NAME_COLUMNS else name.replace("=", "=\n", 1)))
            for name, label in LABELLED:
                table.add_row(f"  {label}", *_compared(row.means[name], row.differences[name]))
    return table


def _compared(found: Means, apart: Differences | None) -> Iterator[str]:
    for metric, also in (("ttft_mean_ms", "ttft_p99_ms"), ("tpot_mean_ms", None)):
        yield number(found[metric].mean)
        if apart is None:
            yield ""
        else:
            yield change(apart[metric])
        if also is not None:
            yield number(found[also].mean)
    yield percent(found["prefix_hit_rate"].mean)


def _picture(study: CompareAnswer) -> Figure:
    figure, axes = drawn("Other settings, against the run as configured", study, len(_COMPARE_PANELS), study.requests)
    rows = [(setting(key.key, row.value), row) for key in study.keys for row in key.rows][::-1]
    for axis, (metric, label) in zip(axes, _COMPARE_PANELS, strict=True):
        for name, shown, colour, above in (("pd", "PD", GREEN, -0.2), ("unified", "unified", BLUE, 0.2)):
            apart, errors = bars_of([row.differences[name][metric].interval for _, row in rows])
            places = [at + above for at in range(len(rows))]
            axis.barh(places, apart, 0.4, xerr=errors, color=colour, capsize=2, ecolor=ORANGE, label=shown)
        axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_yticks(range(len(rows)), [label for label, _ in rows] if axis is axes[0] else [])
        axis.set_xlabel(f"difference in {label}")
        plain_numbers(axis.xaxis)
    legend_below(figure, axes[0])
    return figure


STUDY = Study(
    name="compare",
    places={"pd": 0},
    systems=frozenset({"unified", "pd"}),
    ask=compare_study,
    sentence=compare_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.keys,
    asked_by=lambda context: bool(context.comparisons),
)
