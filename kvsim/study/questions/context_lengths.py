"""What long prompts do to either system: equal requests of several context lengths, at the same rate on both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate
from kvsim.capacity.steady import pd_residence
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent, ratio
from kvsim.record.plain import spliced
from kvsim.sim.run import SYSTEMS
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import latencies
from kvsim.study.pictures import BLUE, GREEN, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart, Runs
from kvsim.study.words import LABELLED, budget_spent, plus_minus, said_of, sample_of, table_of
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_REQUESTS = 300
_FILLED = 2.5
"""Length of a run in units of E2E."""
_METRICS = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms")


Means = Mapping[str, Interval]
"""By the name of a figure."""


@dataclass(frozen=True, kw_only=True)
class LengthRow:
    """Both systems with prompts of one length."""

    context_tokens: int
    requests: int
    """What a run serves."""
    requests_per_s: float
    pd_ratio: tuple[int, int]
    load: Mapping[str, float]
    """By system: the share of its maximum rate."""
    runs: Runs = field(metadata=spliced())
    unified: Means
    pd: Means
    pd_minus_unified: Mapping[str, Apart]

    @property
    def means(self) -> dict[str, Means]:
        """By system."""
        return {"unified": self.unified, "pd": self.pd}


@dataclass(frozen=True, kw_only=True)
class LengthsAnswer(StudyAnswer):
    """Every length that fits an instance."""

    runs: Runs = field(
        metadata=spliced("confidence", "precision", "tie_share", "replications", "fewest_replications", "within_budget")
    )
    output_tokens: int
    load: float
    """Share of the smaller maximum rate."""
    rows: tuple[LengthRow, ...]


def context_study(context: StudyContext) -> LengthsAnswer:
    """The report's ``studies.context``: at each length PD at the ratio that suits it beside unified, on the same GPUs.

    Both are offered ``load.rho`` of the smaller of their maximum rates.
    """
    config = context.plan.config
    output_tokens = config.studies.context_output_tokens
    longest = config.model.max_model_len - output_tokens
    lengths = list(dict.fromkeys(min(asked, longest) for asked in config.studies.context_tokens))
    found = [_row(context, prompt_tokens, output_tokens, 1 / len(lengths)) for prompt_tokens in lengths]
    rows = tuple(row for row in found if row is not None)
    return LengthsAnswer(
        size=replace(context.size(context.sample), trace_requests=None),
        runs=context.runs_of([row.runs for row in rows]),
        output_tokens=output_tokens,
        load=config.load.rho,
        rows=rows,
    )


def _row(context: StudyContext, prompt_tokens: int, output_tokens: int, share: float) -> LengthRow | None:
    """One context length; ``None`` where an instance cannot hold a request of it."""
    plan = context.sample
    if prompt_tokens < 1 or not _fits(plan, prompt_tokens + output_tokens):
        return None

    def requests(num: int, rate_per_s: float, seed: int) -> Workload:
        return fixed(num, rate_per_s, prompt_tokens, output_tokens, "poisson", seed)

    demand = demand_of(requests(64, 1.0, context.seed), plan)
    plan = plan.with_counts(*balanced_pd_ratio(plan, demand))
    maxima = {name: maximum_rate(plan, demand, name) for name in SYSTEMS}
    rate_per_s = plan.config.load.rho * min(maxima.values())
    num = max(FEWEST_REQUESTS, math.ceil(_FILLED * pd_residence(plan, demand, rate_per_s).mean_s * rate_per_s))
    num = min(num, plan.config.studies.max_requests)
    found = context.replicate(
        list(SYSTEMS),
        lambda *_: "unified",
        lambda seed: requests(num, rate_per_s, seed),
        lambda name, workload, seed: context.case(f"{name} {prompt_tokens:,} tokens", name, plan, workload, seed),
        lambda _, __, result: latencies(result),
        context.goal("ttft_mean_ms"),
        share,
    )
    return LengthRow(
        context_tokens=prompt_tokens,
        requests=num,
        requests_per_s=rate_per_s,
        pd_ratio=(plan.num_prefill, plan.num_decode),
        load={name: rate_per_s / maximum for name, maximum in maxima.items()},
        runs=found.runs,
        unified=found.means("unified", _METRICS),
        pd=found.means("pd", _METRICS),
        pd_minus_unified={metric: found.apart("pd", "unified", metric) for metric in _METRICS},
    )


def _fits(plan: Plan, tokens: int) -> bool:
    """Whether an instance of any role has room for so many tokens."""
    sides = (plan.colocated, plan.prefill, plan.decode)
    return tokens <= min(side.spec.num_blocks * side.spec.block_size_tokens for side in sides)


def context_sentence(study: LengthsAnswer) -> str:
    """Who has the lower mean TTFT at each length, by how much of the other's."""
    if not study.rows:
        return "no context length fits an instance"
    said = []
    for row in study.rows:
        apart, means = row.pd_minus_unified["ttft_mean_ms"], [row.means[n]["ttft_mean_ms"].mean for n, _ in LABELLED]
        words = said_of(apart)
        if apart.verdict in ("lower", "higher"):
            width = "" if apart.precise else f" ± {percent(apart.half_width / max(means))}"
            words = f"{_better(apart)} by {percent(abs(apart.mean) / max(means))}{width}"
        said.append(f"{row.context_tokens:,} tokens: {words}")
    same = "the same rate and GPUs, PD at the ratio that suits each length"
    return f"lower mean TTFT at {same}: {'; '.join(said)}{budget_spent(study.runs)}"


def _table(study: LengthsAnswer) -> Table:
    title = f"Context length at {number(study.load)} of the smaller maximum, {sample_of(study)}"
    table = table_of(title, ("prompt tokens", "", "unified", "PD", "better"))
    for row in study.rows:
        left = iter((f"at {number(row.requests_per_s)}/s",))
        ran = f"{percent(row.load['pd'])}, P:D {ratio(row.pd_ratio)}"
        table.add_row(f"{row.context_tokens:,}", "load", percent(row.load["unified"]), ran, "")
        for label, metric in _CONTEXT_METRICS:
            table.add_row(
                next(left, ""),
                label,
                plus_minus(row.unified[metric]),
                plus_minus(row.pd[metric]),
                _better(row.pd_minus_unified[metric]),
            )
    return table


_CONTEXT_METRICS = (
    ("TTFT mean (ms)", "ttft_mean_ms"),
    ("TTFT p99 (ms)", "ttft_p99_ms"),
    ("TPOT mean (ms)", "tpot_mean_ms"),
)


def _better(apart: Apart) -> str:
    """Who has the lower figure."""
    return {"lower": "PD", "higher": "unified"}.get(apart.verdict, apart.verdict)


_CONTEXT_PANELS = (("ttft_mean_ms", "mean TTFT (ms)"), ("tpot_mean_ms", "mean TPOT (ms)"))


def _picture(study: LengthsAnswer) -> Figure:
    figure, axes = drawn("Unified and PD by context length", study, len(_CONTEXT_PANELS))
    lengths = [row.context_tokens for row in study.rows]
    for axis, (metric, label) in zip(axes, _CONTEXT_PANELS, strict=True):
        for name, colour, marker in (("unified", BLUE, "o"), ("pd", GREEN, "s")):
            means, errors = bars_of([row.means[name][metric] for row in study.rows])
            shown = "PD" if name == "pd" else name
            at, style = range(len(lengths)), f"{marker}-"
            axis.errorbar(at, means, yerr=errors, fmt=style, color=colour, capsize=3, label=shown)
        named_places(axis.xaxis, [f"{length:,}" for length in lengths])
        axis.set_xlabel("prompt tokens")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        plain_numbers(axis.yaxis)
    legend_below(figure, axes[0])
    return figure


STUDY = Study(
    name="context",
    places={"pd": 3},
    systems=frozenset({"unified", "pd"}),
    ask=context_study,
    sentence=context_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
