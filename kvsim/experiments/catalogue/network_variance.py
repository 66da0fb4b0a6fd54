"""What varying and shared links cost: transfers alone, PD, and PD that its links bind, with jitter and contention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from kvsim.config.derived import nic_bytes_per_s_per_gpu
from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.experiments.wire import FACTOR, sent_bytes
from kvsim.plan.mode import PD
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.record.plain import spliced
from kvsim.record.result import SystemResult
from kvsim.sim.network.alone import Send, transfer_times_s
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import StudyContext, changed_plan
from kvsim.study.intervals import Interval, interval
from kvsim.study.measures import LOAD, own_load, ttft_ms
from kvsim.study.pictures import PALETTE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart, Figures, Replicated, replicate
from kvsim.study.words import budget_spent, change, plus_minus, said_of, sample_of, table_of
from kvsim.units import GB, MICRO, MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DETERMINISTIC, JITTER, CONTENTION, BOTH = "deterministic", "jitter", "contention", "both"
NETWORKS = (DETERMINISTIC, JITTER, CONTENTION, BOTH)
ALONE, PD_AS_IS, PD_BOUND = "the transfer alone", "PD", "transfer-bound PD"
PLACES = (ALONE, PD_AS_IS, PD_BOUND)
BUSY = 0.7
"""Share of the prefill instances' NICs that the prompts' KV takes, by arithmetic, where links bind."""
FEWEST_SENDS = 1_000
MEAN, P99, MOVED = "ttft_mean_ms", "ttft_p99_ms", "transfer_mean_ms"
_NETWORK, _TRANSFER = "cluster.network", "pd_separation.transfer"


@dataclass(frozen=True, kw_only=True)
class NetworkFigures:
    """What is measured: of TTFT or, where transfers are alone, of a transfer."""

    mean_ms: Interval
    p99_ms: Interval
    transfer_mean_ms: Interval
    """How long transfers took, the part that a prefill hid included."""


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A network in one place, beside the one in which nothing varies and nobody meets."""

    place: str
    network: str
    figures: NetworkFigures = field(metadata=spliced())
    mean_difference_ms: Apart
    p99_difference_ms: Apart


@dataclass(frozen=True, kw_only=True)
class PlaceFacts:
    """Where rows of one place come from."""

    place: str
    nic_share: float
    """Share of the prefill instances' NICs that KV takes, by arithmetic."""
    nic_gb_per_s: float
    """What a GPU's NIC achieves."""
    interaction_ms: Interval
    """By how much more both together change the mean than each alone does, added up."""


@dataclass(frozen=True, kw_only=True)
class NetworkAnswer(StudyAnswer):
    """Every place, in each every network, the deterministic one first."""

    load: float
    """Share of PD's maximum rate, with the hits of its own runs."""
    jitter_cv: float
    tail_jitter_prob: float
    tail_jitter_multiplier: float
    places: tuple[PlaceFacts, ...]
    rows: tuple[NetworkRow, ...]


def network_variance(bench: Bench) -> NetworkAnswer:
    """TTFT of PD, and transfers with nothing around them, under each network."""
    context = bench.loaded_context("pd")
    plan = context.sample
    rate_per_s = context.sample_requests_per_s
    wire_bytes = sent_bytes(context, plan)
    plans = {ALONE: plan, PD_AS_IS: plan, PD_BOUND: bound(plan, rate_per_s * wire_bytes)}
    found = {
        ALONE: _alone(context, plan, wire_bytes),
        PD_AS_IS: _served(context, plan, rate_per_s, PD_AS_IS),
        PD_BOUND: _served(context, plans[PD_BOUND], rate_per_s, PD_BOUND),
    }
    network = plan.config.cluster.network
    return NetworkAnswer(
        size=context.size(plan),
        runs=context.runs_of([one.runs for one in found.values()]),
        load=found[PD_AS_IS].means(DETERMINISTIC, (LOAD,))[LOAD].mean,
        jitter_cv=network.jitter_cv,
        tail_jitter_prob=network.tail_jitter_prob,
        tail_jitter_multiplier=network.tail_jitter_multiplier,
        places=tuple(
            PlaceFacts(
                place=place,
                nic_share=BUSY if place == ALONE else nic_share(plans[place], rate_per_s * wire_bytes),
                nic_gb_per_s=nic_bytes_per_s_per_gpu(plans[place].config) / GB,
                interaction_ms=_interaction(found[place]),
            )
            for place in PLACES
        ),
        rows=tuple(_row(place, network, found[place]) for place in PLACES for network in NETWORKS),
    )


def nic_share(plan: Plan, bytes_per_s: float) -> float:
    """What KV takes of all prefill instances' NICs, if none of it stays inside hosts."""
    return bytes_per_s / (plan.num_prefill * plan.prefill.nic_bytes_per_s)


def bound(plan: Plan, bytes_per_s: float) -> Plan:
    """The plan with NICs so slow that KV takes ``BUSY`` of the prefill instances'; those slower already stay."""
    share = nic_share(plan, bytes_per_s)
    if share >= BUSY:
        return plan
    transfer = plan.config.pd_separation.transfer
    rated_gb_per_s = nic_bytes_per_s_per_gpu(plan.config) / transfer.rdma_efficiency / GB
    return changed_plan(plan, {f"{_TRANSFER}.rdma_gb_per_s": rated_gb_per_s * share / BUSY}, PD_BOUND)


def networks(plan: Plan) -> dict[str, Plan]:
    """The plan under each network: jitter as it is configured or none, links shared as configured or not at all."""
    calm: dict[str, object] = {
        f"{_NETWORK}.jitter_cv": 0.0,
        f"{_NETWORK}.tail_jitter_prob": 0.0,
        f"{_NETWORK}.tail_jitter_multiplier": 1.0,
    }
    lonely: dict[str, object] = {f"{_TRANSFER}.contention": "none"}
    transfer = plan.config.pd_separation.transfer
    shared: dict[str, object] = {f"{_NETWORK}.contention_enabled": True}
    if transfer.contention == "none":
        shared[f"{_TRANSFER}.contention"] = "max_min"
    values: Mapping[str, Mapping[str, object]] = {
        DETERMINISTIC: {**calm, **lonely},
        JITTER: lonely,
        CONTENTION: {**calm, **shared},
        BOTH: shared,
    }
    return {name: changed_plan(plan, changes, name) for name, changes in values.items()}


def _served(context: StudyContext, plan: Plan, rate_per_s: float, place: str) -> Replicated[str]:
    plans = networks(plan)
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    return context.replicate(
        NETWORKS,
        lambda *_: DETERMINISTIC,
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda name, workload, seed: context.case(f"{place}, {name}", "pd", plans[name], workload, seed),
        lambda name, workload, result: {
            **_figures(result),
            **(own_load(plan, workload, result) if name == DETERMINISTIC else {}),
        },
        context.goal(MEAN),
        1 / len(PLACES),
    )


def _figures(result: SystemResult) -> Figures:
    values_ms, moved = ttft_ms(result), result.transfer
    assert moved is not None
    return {
        MEAN: float(values_ms.mean()),
        P99: float(np.percentile(values_ms, 99)),
        MOVED: moved.mean_s / MILLI,
    }


def _alone(context: StudyContext, plan: Plan, wire_bytes: float) -> Replicated[str]:
    """Transfers of a mean request's KV, at random times, that take ``BUSY`` of the prefill instances' NICs."""
    plans, num = networks(plan), max(FEWEST_SENDS, context.settings.max_requests // 4)
    latency_s = plan.config.pd_separation.transfer.setup_us * MICRO

    def measure(replications: Sequence[int], running: Sequence[str]) -> list[tuple[dict[str, Figures], int]]:
        found = []
        for replication in replications:
            seed = context.seeds[replication]
            sends = random_sends(plan, wire_bytes, num, seed)
            times = {name: transfer_times_s(plans[name], sends, seed, latency_s) for name in running}
            found.append(({name: _of_times(each) for name, each in times.items()}, 0))
        return found

    return replicate(NETWORKS, lambda *_: DETERMINISTIC, measure, context.goal(MEAN), context.budget())


def _of_times(times_s: Sequence[float]) -> Figures:
    values_ms = np.array(times_s) / MILLI
    mean_ms = float(values_ms.mean())
    return {MEAN: mean_ms, P99: float(np.percentile(values_ms, 99)), MOVED: mean_ms}


def random_sends(plan: Plan, num_bytes: float, num: int, seed: int) -> list[Send]:
    """Poisson arrivals, from each prefill instance to a decode instance of another host where there is one."""
    random, places = np.random.default_rng(seed), plan.places()
    sources = [at for at, place in enumerate(places) if place.is_prefill]
    targets = {
        source: [at for at, place in enumerate(places) if not place.is_prefill and place.host != places[source].host]
        or [at for at, place in enumerate(places) if not place.is_prefill]
        for source in sources
    }
    per_s = BUSY * len(sources) * plan.prefill.nic_bytes_per_s / num_bytes
    starts_s = np.cumsum(random.exponential(1 / per_s, num)).tolist()
    chosen = random.integers(len(sources), size=num).tolist()
    drawn_ = random.random(num).tolist()
    found = []
    for start_s, which, draw in zip(starts_s, chosen, drawn_, strict=True):
        source = sources[which]
        found.append(Send(start_s, source, targets[source][int(draw * len(targets[source]))], num_bytes))
    return found


def _row(place: str, network: str, found: Replicated[str]) -> NetworkRow:
    around = found.means(network)
    return NetworkRow(
        place=place,
        network=network,
        figures=NetworkFigures(mean_ms=around[MEAN], p99_ms=around[P99], transfer_mean_ms=around[MOVED]),
        mean_difference_ms=found.apart(network, DETERMINISTIC, MEAN),
        p99_difference_ms=found.apart(network, DETERMINISTIC, P99),
    )


def _interaction(found: Replicated[str]) -> Interval:
    """Both - jitter - contention + deterministic, run by run."""
    columns = [[one[MEAN] for one in found.figures[name]] for name in (BOTH, JITTER, CONTENTION, DETERMINISTIC)]
    apart = [both - jitter - met + calm for both, jitter, met, calm in zip(*columns, strict=False)]
    return interval(apart, found.goal.confidence)


def network_sentence(study: NetworkAnswer) -> str:
    """What jitter, contention and both add in each place."""
    parts = []
    for facts in study.places:
        rows = {row.network: row for row in study.rows if row.place == facts.place}
        what = "a mean transfer" if facts.place == ALONE else "mean TTFT"
        base_ms = rows[DETERMINISTIC].figures.mean_ms.mean
        said = [f"{name} {said_of(rows[name].mean_difference_ms)}" for name in (JITTER, CONTENTION, BOTH)]
        tail = said_of(rows[BOTH].p99_difference_ms)
        parts.append(
            f"{facts.place}, NICs {percent(facts.nic_share)} busy: {', '.join(said)} of {number(base_ms)} ms in "
            f"{what}, both {tail} at p99"
        )
    tails = f"{percent(study.tail_jitter_prob)} of transfers {study.tail_jitter_multiplier:g} x as long"
    jitter = f"jitter with a coefficient of variation of {study.jitter_cv:g} and {tails}"
    return f"at {percent(study.load)} of PD's maximum rate, {jitter}: {'; '.join(parts)}{budget_spent(study.runs)}"


def _tables(study: NetworkAnswer) -> tuple[Table, ...]:
    return tuple(_table(study, facts) for facts in study.places)


def _table(study: NetworkAnswer, facts: PlaceFacts) -> Table:
    what = "Transfers alone" if facts.place == ALONE else f"TTFT of {facts.place}"
    title = f"{what}, NICs {percent(facts.nic_share)} busy by arithmetic, {sample_of(study)}"
    table = table_of(title, ("ms", "mean", "added", "p99", "added", "transfer"))
    for row in (row for row in study.rows if row.place == facts.place):
        is_first = row.network == DETERMINISTIC
        table.add_row(
            row.network,
            plus_minus(row.figures.mean_ms),
            "" if is_first else change(row.mean_difference_ms),
            number(row.figures.p99_ms.mean),
            "" if is_first else change(row.p99_difference_ms),
            number(row.figures.transfer_mean_ms.mean),
        )
    return table


def _picture(study: NetworkAnswer) -> Figure:
    figure, axes = drawn("What a network that varies and is shared adds", study, len(study.places))
    for axis, facts in zip(axes, study.places, strict=True):
        rows = [row for row in study.rows if row.place == facts.place and row.network != DETERMINISTIC]
        at = np.arange(len(rows))
        for shift, colour, label, found in (
            (-0.2, PALETTE[0], "mean", [row.mean_difference_ms.interval for row in rows]),
            (0.2, PALETTE[1], "p99", [row.p99_difference_ms.interval for row in rows]),
        ):
            means, errors = bars_of(found)
            axis.bar(at + shift, means, 0.38, yerr=errors, capsize=2, color=colour, label=label)
        named_places(axis.xaxis, [row.network for row in rows])
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set_title(f"{facts.place}\nNICs {percent(facts.nic_share)} busy", fontsize=9)
        plain_numbers(axis.yaxis)
    axes[0].set_ylabel("added to TTFT, or to a transfer (ms)")
    legend_below(figure, axes[0])
    return figure


STUDY = StandaloneStudy(
    mode=PD,
    ask=network_variance,
    sentence=network_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=(
        "cluster.network.jitter_cv=0.3",
        "cluster.network.tail_jitter_prob=0.01",
        "cluster.network.tail_jitter_multiplier=10",
    ),
    smoke=("studies.replications=4", "studies.most_replications=8", "studies.budget_requests=36000"),
)
