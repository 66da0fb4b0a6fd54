"""What a prefix cache shared by single prompts and conversations should be: its size, its blocks, whom it evicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.experiments.bench import Bench
from kvsim.experiments.mixed_turns import mixed_turns
from kvsim.experiments.replays import ALL, MULTI_TURN, PREFILL, SINGLE_TURN, Passed, replayed
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.plan.mode import SINGLE
from kvsim.record.labels import listed, number, percent
from kvsim.record.plain import spliced
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.memory import BASE, BEST
from kvsim.study.pictures import PALETTE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart, Replicated, Runs
from kvsim.study.words import budget_spent, change, said_of, sample_of, table_of
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POLICIES = (BASE, "arc", "session", "hybrid", BEST)
OURS = "hybrid"
SHARES = (0.05, 0.1, 0.2, 0.4)
"""Sizes of the cache, of all blocks that the requests ask for."""
BLOCKS = (16, 64, 256)
USUAL_SHARE, USUAL_BLOCK = 0.1, 16
SINGLES = 0.5
"""Share of the requests that are single prompts."""
FEWEST = 1_000
KINDS = {ALL: "all", SINGLE_TURN: "single", MULTI_TURN: "multi"}


@dataclass(frozen=True, kw_only=True)
class TurnsFigures:
    """What a policy finds, in shares of prompt tokens, and what is left to compute."""

    hit_rate: Interval
    single_turn_hit_rate: Interval
    multi_turn_hit_rate: Interval
    prefill_ms: Interval
    """A mean prompt, on an instance that does nothing else."""


@dataclass(frozen=True, kw_only=True)
class TurnsRow:
    """A policy with a cache of one size and blocks of one size, beside LRU."""

    block_tokens: int
    capacity_share: float
    """Share of all blocks asked for."""
    policy: str
    figures: TurnsFigures = field(metadata=spliced())
    hit_rate_difference: Apart
    single_turn_difference: Apart
    multi_turn_difference: Apart
    prefill_ms_difference: Apart


@dataclass(frozen=True, kw_only=True)
class TurnsAnswer(StudyAnswer):
    """Every cache under every policy."""

    requests: int
    single_share: float
    usual_gb: float
    """A cache of ``USUAL_SHARE``, in the first run."""
    rows: tuple[TurnsRow, ...]


def single_vs_multi_turn(bench: Bench) -> TurnsAnswer:
    """Requests of both kinds pass one cache, block by block as an engine looks prompts up."""
    num = max(FEWEST, bench.config.experiments.num_requests or 0)
    context = bench.context(bench.plan, lambda _, few, seed: mixed_turns(few, SINGLES, seed)[0])
    caches = [(USUAL_BLOCK, share) for share in SHARES] + [
        (block, USUAL_SHARE) for block in BLOCKS if block != USUAL_BLOCK
    ]
    draw = cache(lambda block, seed: Passed.of(*mixed_turns(num, SINGLES, seed), block))
    rows: list[TurnsRow] = []
    runs: list[Runs] = []
    for block, share in caches:
        found = _replayed(context, draw, block, share)
        rows += [_row(found, block, share, policy) for policy in POLICIES]
        runs.append(found.runs)
    usual = draw(USUAL_BLOCK, context.seeds[0]).capacity_blocks(USUAL_SHARE)
    return TurnsAnswer(
        size=context.size(bench.plan),
        runs=context.runs_of(runs),
        requests=num,
        single_share=SINGLES,
        usual_gb=usual * USUAL_BLOCK * bench.plan.spec.kv_bytes_per_token / GB,
        rows=tuple(rows),
    )


def _replayed(context: StudyContext, draw: Callable[[int, int], Passed], block: int, share: float) -> Replicated[str]:
    goal = context.goal(ALL, SINGLE_TURN, MULTI_TURN)
    return replayed(
        context, lambda seed: draw(block, seed), POLICIES, BASE, lambda passed: passed.capacity_blocks(share), goal
    )


def _row(found: Replicated[str], block: int, share: float, policy: str) -> TurnsRow:
    around = found.means(policy)
    return TurnsRow(
        block_tokens=block,
        capacity_share=share,
        policy=policy,
        figures=TurnsFigures(
            hit_rate=around[ALL],
            single_turn_hit_rate=around[SINGLE_TURN],
            multi_turn_hit_rate=around[MULTI_TURN],
            prefill_ms=around[PREFILL],
        ),
        hit_rate_difference=found.apart(policy, BASE, ALL),
        single_turn_difference=found.apart(policy, BASE, SINGLE_TURN),
        multi_turn_difference=found.apart(policy, BASE, MULTI_TURN),
        prefill_ms_difference=found.apart(policy, BASE, PREFILL),
    )


def turns_sentence(study: TurnsAnswer) -> str:
    """What the hybrid policy does to either kind, and what size and blocks do."""
    usual = {row.policy: row for row in study.rows if _is_usual(row)}
    ours, best = usual[OURS], usual[BEST]
    ahead = [row.policy for row in usual.values() if row.policy != BEST]
    first = max(ahead, key=lambda policy: usual[policy].figures.hit_rate.mean)
    parts = [
        f"{percent(study.single_share)} single prompts, a cache of {percent(USUAL_SHARE)} of all blocks "
        f"({number(study.usual_gb)} GB): {OURS} hits {percent(ours.figures.hit_rate.mean)} of prompt tokens, against "
        f"LRU {_points(ours.hit_rate_difference)} in all, {_points(ours.single_turn_difference)} of single prompts, "
        f"{_points(ours.multi_turn_difference)} of conversations, and computing a prompt takes "
        f"{said_of(ours.prefill_ms_difference)}",
        _everywhere(study),
        f"most is hit by {first} ({percent(usual[first].figures.hit_rate.mean)}), by the oracle "
        f"{percent(best.figures.hit_rate.mean)}",
        _by_size(study),
        _by_block(study),
    ]
    return "; ".join(parts) + budget_spent(study.runs)


def _is_usual(row: TurnsRow) -> bool:
    return row.block_tokens == USUAL_BLOCK and row.capacity_share == USUAL_SHARE


def _points(apart: Apart) -> str:
    return said_of(apart.scaled(100), " points")


def _everywhere(study: TurnsAnswer) -> str:
    """Whether ours beats LRU in every cache, and whether it loses on either kind in any."""
    rows = [row for row in study.rows if row.policy == OURS]
    beats = sum(row.hit_rate_difference.verdict == "higher" for row in rows)
    lost = [
        f"{kind} in {percent(row.capacity_share)} of {row.block_tokens}-token blocks"
        for row in rows
        for kind, apart in (("single", row.single_turn_difference), ("conversations", row.multi_turn_difference))
        if apart.verdict == "lower"
    ]
    on = f"loses on {listed(lost)}" if lost else "loses on neither kind in any"
    return f"it beats LRU in {beats} of {len(rows)} caches and {on}"


def _by_size(study: TurnsAnswer) -> str:
    rows = [row for row in study.rows if row.policy == BASE and row.block_tokens == USUAL_BLOCK]
    hits = " ".join(percent(row.figures.hit_rate.mean) for row in rows)
    return f"LRU hits {hits} with {' '.join(percent(row.capacity_share) for row in rows)} of the blocks"


def _by_block(study: TurnsAnswer) -> str:
    rows = sorted(
        (row for row in study.rows if row.policy == BASE and row.capacity_share == USUAL_SHARE),
        key=lambda row: row.block_tokens,
    )
    hits = " ".join(percent(row.figures.hit_rate.mean) for row in rows)
    return f"and {hits} with blocks of {' '.join(str(row.block_tokens) for row in rows)} tokens"


def _tables(study: TurnsAnswer) -> tuple[Table, ...]:
    title = f"Hit rates of prompt tokens, and their differences to LRU in points,\n{sample_of(study, study.requests)}"
    columns = ("cache", "block", "policy", "all", "single", "multi", "all", "single", "multi", "ms")
    table = table_of(title, columns)
    for row in study.rows:
        is_base = row.policy == BASE
        apart = (row.hit_rate_difference, row.single_turn_difference, row.multi_turn_difference)
        table.add_row(
            percent(row.capacity_share) if is_base else "",
            str(row.block_tokens) if is_base else "",
            row.policy,
            percent(row.figures.hit_rate.mean),
            percent(row.figures.single_turn_hit_rate.mean),
            percent(row.figures.multi_turn_hit_rate.mean),
            *("" if is_base else change(each.scaled(100)) for each in apart),
            number(row.figures.prefill_ms.mean),
        )
    return (table,)


def _picture(study: TurnsAnswer) -> Figure:
    figure, axes = drawn("A cache for single prompts and conversations", study, len(KINDS), requests=study.requests)
    rows = [row for row in study.rows if row.block_tokens == USUAL_BLOCK]
    for axis, (metric, label) in zip(axes, KINDS.items(), strict=True):
        _panel(axis, rows, metric)
        axis.set_title({"all": "all", "single": "single prompts", "multi": "conversations"}[label], fontsize=9)
    axes[0].set_ylabel("prompt tokens hit (%)")
    legend_below(figure, axes[0])
    return figure


def _panel(axis: Axes, rows: list[TurnsRow], metric: str) -> None:
    for policy, colour in zip(POLICIES, PALETTE, strict=False):
        own = [row for row in rows if row.policy == policy]
        means, errors = bars_of([getattr(row.figures, metric) for row in own])
        axis.errorbar(
            range(len(own)),
            [100 * mean for mean in means],
            yerr=[100 * error for error in errors],
            fmt="--" if policy == BEST else "o-",
            capsize=3,
            color=colour,
            label=policy,
        )
    named_places(axis.xaxis, [f"{100 * share:g}" for share in dict.fromkeys(row.capacity_share for row in rows)])
    axis.set_xlabel("cache (% of all blocks)")
    axis.set_ylim(0, 100)
    plain_numbers(axis.yaxis)


STUDY = StandaloneStudy(
    mode=SINGLE,
    ask=single_vs_multi_turn,
    sentence=turns_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=("cache.num_workers=1",),
    smoke=("studies.replications=3", "studies.most_replications=3"),
    own_requests=True,
)
