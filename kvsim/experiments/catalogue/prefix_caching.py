"""What prefix caching saves: shared prefixes by their length, users and share of requests, beside hand calculations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.plan.mode import SINGLE
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.record.percentiles import percentiles
from kvsim.record.result import SystemResult
from kvsim.record.summary import e2e_s, rows_of, ttft_s
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval, interval
from kvsim.study.measures import throughput_per_s
from kvsim.study.pictures import PALETTE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart, Figures, Replicated
from kvsim.study.words import budget_spent, change, said_of, sample_of, table_of
from kvsim.units import MILLI
from kvsim.workload.synthetic.assembled import Assembly
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIXES = (0, 128, 512, 1024, 2048)
USERS = (1, 8, 16, 32)
OWN_TOKENS, OWN_SPREAD, ANSWER_TOKENS = 512, 0.25, 64
"""Tokens of a prompt behind what it shares: the mean, and within which share of it all are, uniformly; of an answer."""
MIXED_PREFIX, MIXED_USERS = 1024, (1, 8)
ELIGIBLE = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of requests that begin with the shared prefix, in mixed traffic; others have as many tokens of their own."""
_FEWEST, _ROUNDS = 32, 6
"""Requests of a run: these at least, and so many of each user."""
ON, OFF = "cache_on", "cache_off"
TTFT, TTFT95, E2E, E2E95 = "ttft_mean_ms", "ttft_p95_ms", "e2e_mean_ms", "e2e_p95_ms"
RATE, TOKENS, SAVED = "requests_per_s", "output_tokens_per_s", "hit_rate"
HITS = "prefix_hit_rate"
"""Requests that hit, over all that count."""


@dataclass(frozen=True, kw_only=True)
class CanonicalRow:
    """A line of the table that tools for this question share."""

    mode: str
    prefix_regime: str
    concurrency: int
    mean_ttft_s: float
    p95_ttft_s: float
    mean_e2e_s: float
    p95_e2e_s: float
    req_s: float
    tok_s: float
    notes: str


@dataclass(frozen=True, kw_only=True)
class PrefixRow:
    """A shared prefix, for so many users, with prefix caching and without."""

    prefix_tokens: int
    concurrency: int
    on: CanonicalRow
    off: CanonicalRow
    saved_share: float
    """Prompt tokens found in the cache, over all."""
    hand_saved_share: float
    """P / (P + S), P in whole blocks."""
    ttft_difference_ms: Apart
    e2e_difference_ms: Apart


@dataclass(frozen=True, kw_only=True)
class MixedRow:
    """A share of requests that begin with the shared prefix."""

    eligible: float
    concurrency: int
    on: CanonicalRow
    hit_share: float
    """Requests that hit, over all that count: h."""
    ttft_mean_ms: Interval
    hand_ttft_ms: Interval
    """h x the mean TTFT where all hit + (1 - h) x that where none does."""
    beyond_hand_ms: Interval
    """What is measured less that, run by run."""


@dataclass(frozen=True, kw_only=True)
class PrefixAnswer(StudyAnswer):
    """Every prefix for every number of users, then mixed traffic."""

    own_tokens: int
    answer_tokens: int
    mixed_prefix_tokens: int
    rows: tuple[PrefixRow, ...]
    mixed: tuple[MixedRow, ...]

    @property
    def canonical(self) -> tuple[CanonicalRow, ...]:
        """All lines of the shared table."""
        return (*(line for row in self.rows for line in (row.off, row.on)), *(row.on for row in self.mixed))


def prefix_caching(bench: Bench) -> PrefixAnswer:
    """One instance, in a closed loop, with equal requests in every pair that is compared."""
    plans = {
        name: bench.plan_with({"engine.enable_prefix_caching": caches}, name)
        for name, caches in ((OFF, False), (ON, True))
    }
    plan = plans[ON]
    context = bench.context(plan, lambda _, num, seed: requests(num, 1, PREFIXES[-1], 1.0, seed))
    share = 1 / (len(PREFIXES) * len(USERS) + len(MIXED_USERS))
    rows, runs = [], []
    for prefix in PREFIXES:
        for users in USERS:
            found = _pair(context, plans, prefix, users, share)
            rows.append(_row(plan, found, prefix, users))
            runs.append(found.runs)
    mixed: list[MixedRow] = []
    for users in MIXED_USERS:
        replicated = _mixture(context, plan, users, share)
        mixed += [_mixed_row(replicated, eligible, users) for eligible in ELIGIBLE]
        runs.append(replicated.runs)
    return PrefixAnswer(
        size=context.size(plan),
        runs=context.runs_of(runs),
        own_tokens=OWN_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        mixed_prefix_tokens=MIXED_PREFIX,
        rows=tuple(rows),
        mixed=tuple(mixed),
    )


def requests(num: int, users: int, prefix_tokens: int, eligible: float, seed: int) -> Workload:
    """``num`` requests of ``users`` in a closed loop, a share ``eligible`` of which begin with the same tokens.

    Lengths, and who is eligible at a smaller share, are the same for one seed.
    """
    random = np.random.default_rng(seed)
    low, high = round(OWN_TOKENS * (1 - OWN_SPREAD)), round(OWN_TOKENS * (1 + OWN_SPREAD))
    own = random.integers(low, high, num, endpoint=True).tolist()
    carries = (random.random(num) < eligible).tolist()
    found = Assembly()
    for tokens, carried in zip(own, carries, strict=True):
        parts = [("prefix", prefix_tokens), (None, tokens)] if carried else [(None, prefix_tokens + tokens)]
        found.add(0.0, parts, ANSWER_TOKENS)
    workload = found.workload("shared prefixes", (f"{prefix_tokens:,} tokens shared",), closed=False)
    return replace(workload, max_concurrency=users)


def _number(users: int) -> int:
    return max(_FEWEST, _ROUNDS * users)


def _pair(context: StudyContext, plans: Mapping[str, Plan], prefix: int, users: int, share: float) -> Replicated[str]:
    return context.replicate(
        (OFF, ON),
        lambda *_: OFF,
        lambda seed: requests(_number(users), users, prefix, 1.0, seed),
        lambda arm, workload, seed: context.case(
            f"{prefix} shared, {users} users, {arm}", "unified", plans[arm], workload, seed
        ),
        lambda _, __, result: figures(result),
        context.goal(TTFT),
        share,
        own_windows=True,
    )


def _mixture(context: StudyContext, plan: Plan, users: int, share: float) -> Replicated[float]:
    """Mixed traffic; arms are shares of requests that are eligible, each with requests of its own."""

    def drawn_for(eligible: float, seed: int) -> Workload:
        return requests(_number(users), users, MIXED_PREFIX, eligible, seed)

    return context.replicate(
        ELIGIBLE,
        lambda *_: 0.0,
        lambda seed: drawn_for(0.0, seed),
        lambda eligible, _, seed: context.case(
            f"{eligible:.0%} eligible, {users} users", "unified", plan, drawn_for(eligible, seed), seed
        ),
        lambda _, __, result: figures(result),
        context.goal(TTFT),
        share,
        own_windows=True,
    )


def figures(result: SystemResult) -> Figures:
    """What the shared table has of a run, and how much of its prompts was cached."""
    rows = rows_of(result, result.measured)
    first, whole = ttft_s(rows) / MILLI, e2e_s(rows) / MILLI
    per_s, counted = throughput_per_s(result), result.measured
    hit, prompt = result.table["hit_tokens"][counted], result.table["prompt_tokens"][counted]
    return {
        TTFT: float(first.mean()),
        TTFT95: float(percentiles(first, 95)),
        E2E: float(whole.mean()),
        E2E95: float(percentiles(whole, 95)),
        RATE: per_s,
        TOKENS: per_s * float(rows["output_tokens"].mean()),
        SAVED: float(hit.sum() / prompt.sum()),
        HITS: float((hit > 0).mean()),
    }


def _line(mode: str, regime: str, users: int, around: dict[str, Interval], notes: str) -> CanonicalRow:
    return CanonicalRow(
        mode=mode,
        prefix_regime=regime,
        concurrency=users,
        mean_ttft_s=around[TTFT].mean * MILLI,
        p95_ttft_s=around[TTFT95].mean * MILLI,
        mean_e2e_s=around[E2E].mean * MILLI,
        p95_e2e_s=around[E2E95].mean * MILLI,
        req_s=around[RATE].mean,
        tok_s=around[TOKENS].mean,
        notes=notes,
    )


def hand_saved_share(prefix_tokens: int, block_tokens: int) -> float:
    """P / (P + S): whole blocks of the prefix over the mean prompt."""
    return prefix_tokens // block_tokens * block_tokens / (prefix_tokens + OWN_TOKENS)


def _row(plan: Plan, found: Replicated[str], prefix: int, users: int) -> PrefixRow:
    regime, hand = f"shared_{prefix}", hand_saved_share(prefix, plan.spec.block_size_tokens)
    on, off = found.means(ON), found.means(OFF)
    notes = f"{percent(on[SAVED].mean)} of prompt tokens cached; P/(P+S) {percent(hand)}"
    return PrefixRow(
        prefix_tokens=prefix,
        concurrency=users,
        on=_line(ON, regime, users, on, notes),
        off=_line(OFF, regime, users, off, "nothing cached"),
        saved_share=on[SAVED].mean,
        hand_saved_share=hand,
        ttft_difference_ms=found.apart(ON, OFF, TTFT),
        e2e_difference_ms=found.apart(ON, OFF, E2E),
    )


def together(found: Replicated[float], arms: Sequence[float]) -> Replicated[float]:
    """``found`` with those of its runs alone that all ``arms`` have: others served other requests."""
    shared = min(len(found.figures[arm]) for arm in arms)
    return replace(found, figures={arm: runs[:shared] for arm, runs in found.figures.items()})


def _mixed_row(replicated: Replicated[float], eligible: float, users: int) -> MixedRow:
    found = together(replicated, (eligible, 0.0, 1.0))
    runs = list(zip(found.figures[eligible], found.figures[0.0], found.figures[1.0], strict=True))
    hand = [one[HITS] * hit[TTFT] + (1 - one[HITS]) * miss[TTFT] for one, miss, hit in runs]
    beyond = [one[TTFT] - expected for (one, _, _), expected in zip(runs, hand, strict=True)]
    confidence, around = found.goal.confidence, found.means(eligible)
    hand_ms = interval(hand, confidence)
    notes = f"h {percent(around[HITS].mean)}; h x hit + (1 - h) x miss: {hand_ms.mean * MILLI:.6g} s"
    return MixedRow(
        eligible=eligible,
        concurrency=users,
        on=_line(ON, f"shared_{MIXED_PREFIX}_of_{eligible:.0%}", users, around, notes),
        hit_share=around[HITS].mean,
        ttft_mean_ms=around[TTFT],
        hand_ttft_ms=hand_ms,
        beyond_hand_ms=interval(beyond, confidence),
    )


def prefix_sentence(study: PrefixAnswer) -> str:
    """What the longest prefix saves for one user and for many, and how far hand calculations go."""
    longest = max(row.prefix_tokens for row in study.rows)
    rows = [row for row in study.rows if row.prefix_tokens == longest]
    saved = [
        f"{said_of(row.ttft_difference_ms)} of {number(row.off.mean_ttft_s / MILLI)} ms for {_users(row.concurrency)}"
        for row in (rows[0], rows[-1])
    ]
    alone = [row for row in study.rows if row.prefix_tokens == 0]
    nothing = all(row.ttft_difference_ms.tie for row in alone)
    farthest = max(abs(row.saved_share - row.hand_saved_share) for row in study.rows)
    parts = [
        f"with {longest:,} shared tokens before about {study.own_tokens:,} others, prefix caching changes mean TTFT by "
        + " and ".join(saved),
        f"without shared tokens {'nothing' if nothing else 'something'} changes",
        f"cached tokens are P/(P+S) of all within {100 * farthest:.2g} points",
    ]
    return "; ".join([*parts, *_mixed_words(study)]) + budget_spent(study.runs)


def _mixed_words(study: PrefixAnswer) -> Iterator[str]:
    """How far the mixture of a hit's and a miss's TTFT is from what was measured."""
    for users in dict.fromkeys(row.concurrency for row in study.mixed):
        rows = [row for row in study.mixed if row.concurrency == users and 0 < row.eligible < 1]
        worst = max(rows, key=lambda row: abs(row.beyond_hand_ms.mean) / row.hand_ttft_ms.mean)
        off = worst.beyond_hand_ms.mean / worst.hand_ttft_ms.mean
        width = worst.beyond_hand_ms.half_width / worst.hand_ttft_ms.mean
        yield (
            f"where a share of requests is eligible, mean TTFT for {_users(users)} is at most {percent(abs(off))} ± "
            f"{percent(width)} from h x hit + (1 - h) x miss"
        )


def _users(number_of: int) -> str:
    return "1 user" if number_of == 1 else f"{number_of} users"


def _tables(study: PrefixAnswer) -> tuple[Table, ...]:
    title = f"Mean TTFT (ms), with {study.own_tokens} other prompt tokens and {study.answer_tokens} answered,\n"
    table = table_of(
        title + sample_of(study), ("shared", "users", "cached", "P/(P+S)", "off", "on", "saved"), names=False
    )
    for row in study.rows:
        table.add_row(
            f"{row.prefix_tokens:,}",
            str(row.concurrency),
            percent(row.saved_share),
            percent(row.hand_saved_share),
            number(row.off.mean_ttft_s / MILLI),
            number(row.on.mean_ttft_s / MILLI),
            change(row.ttft_difference_ms),
        )
    title = f"Mean TTFT (ms) where some share {study.mixed_prefix_tokens:,} tokens"
    mixed = table_of(title, ("eligible", "users", "hit", "measured", "by hand", "beyond"), names=False)
    for each in study.mixed:
        mixed.add_row(
            percent(each.eligible),
            str(each.concurrency),
            percent(each.hit_share),
            number(each.ttft_mean_ms.mean),
            number(each.hand_ttft_ms.mean),
            f"{number(each.beyond_hand_ms.mean)} ± {number(each.beyond_hand_ms.half_width)}",
        )
    return table, mixed


def _picture(study: PrefixAnswer) -> Figure:
    figure, (left, right) = drawn("What prefix caching saves", study, 2)
    prefixes = list(dict.fromkeys(row.prefix_tokens for row in study.rows))
    for users, colour in zip(dict.fromkeys(row.concurrency for row in study.rows), PALETTE, strict=False):
        rows = [row for row in study.rows if row.concurrency == users]
        means, errors = bars_of([row.ttft_difference_ms.interval for row in rows])
        saved = [-mean for mean in means]
        left.errorbar(range(len(rows)), saved, yerr=errors, fmt="o-", capsize=3, color=colour, label=_users(users))
    named_places(left.xaxis, [f"{prefix:,}" for prefix in prefixes])
    left.set_xlabel("shared prompt tokens")
    left.set_ylabel("mean TTFT saved (ms)")
    _mixed_panel(right, study.mixed)
    plain_numbers(left.yaxis, right.yaxis)
    legend_below(figure, left, right)
    return figure


def _mixed_panel(axis: object, rows: Sequence[MixedRow]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    for users, colour in zip(dict.fromkeys(row.concurrency for row in rows), PALETTE, strict=False):
        own = [row for row in rows if row.concurrency == users]
        at = [100 * row.eligible for row in own]
        means, errors = bars_of([row.ttft_mean_ms for row in own])
        axis.errorbar(at, means, yerr=errors, fmt="o", capsize=3, color=colour)
        axis.plot(at, [row.hand_ttft_ms.mean for row in own], "--", color=colour, label=f"by hand, {_users(users)}")
    axis.set_xlabel("requests with the shared prefix (%)")
    axis.set_ylabel("mean TTFT (ms)")
    axis.set_ylim(bottom=0)


STUDY = StandaloneStudy(
    mode=SINGLE,
    ask=prefix_caching,
    sentence=prefix_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.canonical,
    sets=(
        "model.name=llama-3.1-8b",
        "engine.tensor_parallel_size=1",
        "cache.num_workers=1",
        "cache.tiers=[]",
    ),
    smoke=("studies.replications=3", "studies.most_replications=4", "studies.tier_budget_requests=20000"),
    own_requests=True,
)
