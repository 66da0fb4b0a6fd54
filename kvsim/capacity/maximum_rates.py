"""The most requests a second that each side of a cluster can serve, by arithmetic: no engine runs here.

All rates are of a side that never lacks work. Step times are those of ``kvsim.steptime``; what caches save is measured
elsewhere and comes in a ``Demand``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from kvsim.capacity.decode_residency import DecodeLoad, DecodeResidency, KvFootprint, largest
from kvsim.capacity.decoding import Decoding, mixed_s, pure_s
from kvsim.capacity.demand import Demand
from kvsim.capacity.kv_links import KvLinks
from kvsim.capacity.kv_saturation import Churn, empty_tokens
from kvsim.capacity.prefill_packing import packed, packed_whole
from kvsim.capacity.saturated import Played, Saturated, played
from kvsim.capacity.static_batching import static_requests_per_s
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.plan import Plan
from kvsim.steptime import Coefficients
from kvsim.workload.workload import Floats

_SEED = 7
"""Seed of the averages over admissions: arithmetic gives one answer whatever the run's seed is."""
_ROUNDS = 3
"""Concurrency and the room that stays empty depend on each other, weakly: each round gains two digits."""
_PLAYS = 2
"""Plays of a saturated instance: what prompts share depends on how many are there, weakly."""


def role_maxima(plan: Plan, demand: Demand, system: str) -> dict[str, float]:
    """Requests/s that the whole of each role of ``pd`` or ``unified`` can serve; ``inf`` where it has nothing to do."""
    if system == "unified":
        return {"colocated": maximum_rate(plan, demand, system)}
    prefill, decode = pd_requests_per_s(plan, demand)
    return {"prefill": prefill, "decode": decode}


def maximum_rate(plan: Plan, demand: Demand, system: str) -> float:
    """Maximum rate of ``pd`` or ``unified``; requests/s."""
    if system == "unified":
        return sum(pool_maxima(plan, demand))
    return min(pd_requests_per_s(plan, demand))


def pool_maxima(plan: Plan, demand: Demand) -> list[float]:
    """Requests/s of the unified instances of each kind."""
    return [own.num_instances * colocated_requests_per_s(own, demand) for own in plan.by_kind()]


def pd_requests_per_s(plan: Plan, demand: Demand) -> tuple[float, float]:
    """Requests/s of all prefill and of all decode instances; neither more than the links between them carry."""
    return _linked(plan, demand, prefill_requests_per_s(plan, demand), decode_requests_per_s(plan, demand))


def _linked(plan: Plan, demand: Demand, prefill: float, decode: float) -> tuple[float, float]:
    """Requests/s of both sides, from the rates of one instance each. Cells get as many requests each: the slowest kind
    is the limit of all."""
    if plan.cells > 1:
        found = [_linked(kind, demand, prefill, decode) for kind in plan.cell_kinds()]
        return plan.cells * min(kind[0] for kind in found), plan.cells * min(kind[1] for kind in found)
    decodes = KvLinks(plan, demand).requests_per_s(decode)
    prefills = plan.num_prefill * prefill
    return (prefills if decodes == plan.num_decode * decode else min(prefills, decodes)), decodes


def balanced_pd_ratio(plan: Plan, demand: Demand) -> tuple[int, int]:
    """``(num_prefill, num_decode)`` of the plan's instances whose slower side is fastest."""
    prefill, decode = prefill_requests_per_s(plan, demand), decode_requests_per_s(plan, demand)
    prefill_gpus, decode_gpus = plan.degrees
    most = plan.num_gpus / prefill_gpus
    exact = most if np.isfinite(prefill) else 1.0
    if np.isfinite(prefill) and np.isfinite(decode):
        exact = most * decode / (prefill * (decode_gpus / prefill_gpus) + decode)
    counts = {min(max(int(exact) + more, plan.cells), plan.most_prefill) for more in (0, 1)}

    @cache
    def served_per_s(num_prefill: int) -> float:
        return min(_linked(plan.sized(plan.num_instances, num_prefill), demand, prefill, decode))

    best = max(sorted(counts), key=served_per_s)
    if served_per_s(best) < min(best * prefill, plan.decode_beside(best) * decode):
        best = _climbed(served_per_s, best, plan.cells, plan.most_prefill)
    if plan.engines_in_step > 1:
        best = max(_whole_groups(plan, best), key=served_per_s, default=best)
    return best, plan.decode_beside(best)


def _whole_groups(plan: Plan, best: int) -> list[int]:
    """The two counts of prefill instances nearest to ``best`` that leave whole groups of those that step together on
    both sides, or fewer where there are not as many."""
    size = plan.engines_in_step
    whole = [count for count in range(size, plan.most_prefill + 1, size) if plan.decode_beside(count) % size == 0]
    return sorted(sorted(whole, key=lambda count: abs(count - best))[:2])


def _climbed(served_per_s: Callable[[int], float], best: int, least: int, most: int) -> int:
    """From ``best`` up, by steps that become smaller: links carry most where both sides have about as many of them."""
    step = most // 2
    while step:
        near = [count for count in (best - step, best + step) if least <= count <= most]
        better = max(near, key=served_per_s, default=best)
        if served_per_s(better) > served_per_s(best):
            best = better
        else:
            step //= 2
    return best


# Prefill


def prefill_requests_per_s(plan: Plan, demand: Demand) -> float:
    """What the steps of one prefill instance can compute."""
    return 1 / prefill_s_per_request(plan, demand)


def prefill_s_per_request(plan: Plan, demand: Demand) -> float:
    """Instance-seconds a request takes of prefill steps that are full: sum of step times / requests.

    With chunks every step computes T tokens, T the token budget B, or seats x mean prompt where seats are the fewer:
    prompts are laid end to end and cut every T tokens. Without, prompts are packed whole, in order, as long as the next
    one fits.
    """
    settings, c = plan.prefill_settings, plan.prefill.step_time.coefficients
    computed = np.maximum(demand.computed_tokens, 1.0)
    if not settings.enable_chunked_prefill:
        room_tokens = min(settings.max_num_batched_tokens, settings.room_tokens)
        steps = packed_whole(computed, room_tokens, settings.max_num_seqs)
        work = float(c.attention_work(computed, demand.hit_tokens).sum())
        tokens, num_steps, chunks = steps, float(len(steps)), len(computed)
    else:
        step_tokens = min(settings.max_num_batched_tokens, settings.max_num_seqs * float(computed.mean()))
        pieces = packed(computed, demand.hit_tokens, step_tokens)
        work = float(c.attention_work(pieces.tokens, pieces.prefix_tokens).sum())
        tokens, num_steps, chunks = np.full(1, step_tokens), float(computed.sum()) / step_tokens, len(pieces.tokens)
    dense_s = float(c.dense_s(tokens).mean()) * num_steps
    return float(dense_s + c.b_s_per_token2 * work + c.s_s_per_seq * chunks) / len(computed)


# Decode


def decode_requests_per_s(plan: Plan, demand: Demand) -> float:
    """Requests/s of one decode instance, whatever links carry: n / (steps per request x step time at n).

    n is bounded by the seats, and by room: every request holds its prompt, what it has generated, and what is left of
    its decode reservation, from the moment that is made. By Little's law, with h(n) the tokens that n decoding requests
    hold and tau the time between reservation and first step,

        h(n) + rate x tau x (prompt + reservation) + empty = room,

    ``empty`` being what the request at the head of the queue leaves unused because it does not fit.
    """
    residency = DecodeResidency.of_decode(plan, demand)
    if not residency.mean_steps:
        return np.inf
    load = full_decode_load(plan, demand)
    return load.num_seqs / (residency.mean_steps * decode_step_s(plan, load))


def full_decode_load(plan: Plan, demand: Demand) -> DecodeLoad:
    """The decodes of an instance that admits whenever there is a seat and room."""
    residency = DecodeResidency.of_decode(plan, demand)
    settings = plan.decode_settings.in_one_group(residency.load(1.0).kv_tokens_per_seq)
    footprint = KvFootprint(demand, residency, settings.block_size)
    seats = float(min(settings.max_num_seqs, settings.max_scheduled_tokens / _tokens_of_decode(settings)))
    pool_tokens = settings.room_tokens
    # The transfer, and half a step until the boundary.
    transfer_s = KvLinks(plan.one_cell, demand).sending_s()

    def committed_tokens(num_seqs: float) -> float:
        step_s = decode_step_s(plan, residency.load(num_seqs))
        pending = num_seqs / (residency.mean_steps * step_s) * (transfer_s + 0.5 * step_s)
        return footprint.held_tokens(num_seqs) + footprint.pending_tokens(pending, num_seqs)

    alone_s = residency.mean_steps * decode_step_s(plan, residency.load(1.0))
    # Who finds an instance empty is let in whatever it reserves: one after the other is the least that it serves.
    least = alone_s / (alone_s + transfer_s + 0.5 * alone_s / residency.mean_steps)
    num_seqs, empty = seats, 0.0
    for _ in range(_ROUNDS):
        num_seqs = largest(committed_tokens, pool_tokens - empty, seats)
        if num_seqs == seats:
            break
        if num_seqs <= least:
            num_seqs = least
            break
        empty = empty_tokens(_decode_churn(residency, footprint, num_seqs), _SEED)
    return residency.load(num_seqs)


def _decode_churn(residency: DecodeResidency, footprint: KvFootprint, num_seqs: float) -> Churn:
    prompts = footprint.prompt_tokens(num_seqs)
    return Churn(
        needs=prompts + residency.reservation_tokens,
        releases=prompts + np.maximum(residency.steps * residency.tokens_per_step, residency.reservation_tokens),
        completions_per_step=num_seqs / residency.mean_steps,
        growth_per_step=num_seqs * residency.share_beyond_reservation * residency.tokens_per_step,
    )


def decode_step_s(plan: Plan, load: DecodeLoad) -> float:
    """Mean time of a decode instance's step that only decodes."""
    return float(pure_s(plan.decode.step_time.coefficients, Decoding.of(load)))


def decode_load_at(plan: Plan, demand: Demand, requests_per_s: float) -> DecodeLoad:
    """The decodes of one instance that gets ``requests_per_s``, up to its full load: n = rate x steps x t(n)."""
    residency, full = DecodeResidency.of_decode(plan, demand), full_decode_load(plan, demand)

    def served_per_s(num_seqs: float) -> float:
        return num_seqs / (residency.mean_steps * decode_step_s(plan, residency.load(num_seqs)))

    return residency.load(largest(served_per_s, requests_per_s, full.num_seqs))


# Unified


def colocated_requests_per_s(plan: Plan, demand: Demand) -> float:
    """Requests/s of one colocated instance: completions per step / mean step time.

    Each request takes d = output - 1 decode steps, the first token being its prefill's, so that n decoding requests
    complete n / d a step, and as many are admitted. n is bounded by

    - the seats;
    - the token budget B, decodes going first: n + (n / d) x computed <= B; where this binds, every step is full;
    - the pool: what decoding requests hold, what prefilling ones do, and what stands empty are its room.

    Where the budget does not bind, steps are those of the admission rule played on a full instance
    (:mod:`kvsim.capacity.saturated`), preemption and what it costs included. Static batches are played one after the
    other (:mod:`kvsim.capacity.static_batching`).
    """
    plan = _all_batches(plan)
    c, residency = plan.step_time.coefficients, DecodeResidency.of_colocated(plan, demand)
    computed = np.maximum(demand.computed_tokens, 1.0)
    work_s = c.b_s_per_token2 * float(c.attention_work(computed, demand.hit_tokens).mean())
    settings = plan.colocated_settings
    if not residency.mean_steps:
        return 1 / _prompts_only_s(c, settings.max_num_batched_tokens, settings.max_num_seqs, computed, work_s)
    if settings.batching == "static":
        return _static(plan, demand, residency)
    num_seqs, found = _full_colocated(plan, demand, residency, computed)
    completions = num_seqs / residency.mean_steps
    if found is None:
        full = np.array(float(settings.max_num_batched_tokens))
        prefilled = full - num_seqs * _tokens_of_decode(settings)
        step_s = float(mixed_s(c, Decoding.of(residency.load(num_seqs)), prefilled))
        return completions / (step_s + completions * work_s + c.s_s_per_seq * (completions + 1))
    completions = found.generated / residency.mean_steps
    return completions / (_steps_s(c, residency.load(num_seqs), found) + completions * work_s)


def _all_batches(plan: Plan) -> Plan:
    """A plan in which the batches of a full pipeline, as many as it has stages, are one step; as its coefficients are
    of such steps."""
    settings = plan.colocated_settings
    if settings.pipeline_parallel == 1:
        return plan
    budget = settings.max_num_batched_tokens * settings.pipeline_parallel
    return plan.with_settings("colocated", max_num_batched_tokens=budget, pipeline_parallel=1)


def _static(plan: Plan, demand: Demand, residency: DecodeResidency) -> float:
    settings = plan.colocated_settings.in_one_group(residency.load(1.0).kv_tokens_per_seq)
    footprint = KvFootprint(demand, residency, settings.block_size)
    computed = np.maximum(demand.computed_tokens, 1.0)
    beside = min(float(settings.max_num_seqs), settings.max_num_batched_tokens / float(computed.mean()))
    needs = footprint.prompt_tokens(beside)
    return static_requests_per_s(plan.step_time.coefficients, settings, demand, residency, needs, _SEED)


def _prompts_only_s(c: Coefficients, budget_tokens: int, seats: int, computed: Floats, work_s: float) -> float:
    """Instance-seconds a request takes where every answer is the one token that its prefill gives."""
    mean_tokens = float(computed.mean())
    step_tokens = min(budget_tokens, seats * mean_tokens)
    steps = mean_tokens / step_tokens
    return steps * float(c.dense_s(np.array(step_tokens))) + work_s + c.s_s_per_seq * (1 + steps)


def _full_colocated(
    plan: Plan, demand: Demand, residency: DecodeResidency, computed: Floats
) -> tuple[float, Played | None]:
    """Decoding requests of a saturated instance, and its steps; ``None`` where the token budget is the limit.

    Who gets g tokens by a step is played in units of g tokens, so that a step gives one of them.
    """
    settings = plan.colocated_settings.in_one_group(residency.load(1.0).kv_tokens_per_seq)
    budget = settings.max_scheduled_tokens
    each, per_step = _tokens_of_decode(settings), residency.tokens_per_step
    most = budget / (each + float(computed.mean()) / residency.mean_steps)
    seats = float(min(settings.max_num_seqs, budget / each))
    footprint = KvFootprint(demand, residency, settings.block_size)
    num_seqs, found = largest(footprint.held_tokens, settings.room_tokens, min(most, seats)), None
    if num_seqs == most:
        return num_seqs, None
    for _ in range(_PLAYS):
        case = Saturated(
            needs=footprint.drawn_tokens(num_seqs, _SEED) / per_step,
            computed=computed / per_step,
            contexts=residency.context_tokens / per_step,
            steps=residency.steps,
            room_tokens=(settings.room_tokens - footprint.common_tokens(num_seqs)) / per_step,
            kept_tokens=int(settings.watermark * (settings.num_blocks + 1)) * settings.block_size / per_step,
            seats=int(seats),
            budget_tokens=int((budget - num_seqs * (each - per_step)) / per_step),
            caches=settings.enable_prefix_caching,
        )
        found = played(case, num_seqs, _SEED).times(per_step)
        num_seqs = found.mean_seqs
    return num_seqs, found


def _tokens_of_decode(settings: EngineSettings) -> float:
    """Tokens of a step's budget that each decoding sequence takes: its own, its drafts, and the drafter's."""
    speculation = settings.speculation
    return 1.0 if speculation is None else 1.0 + speculation.num_tokens + settings.draft_slots


def _steps_s(c: Coefficients, load: DecodeLoad, found: Played) -> float:
    """Seconds of all steps of a saturated instance, less the attention of prompts computed for the first time."""
    beyond_tokens = load.longest_tokens - load.kv_tokens_per_seq

    def decoding(num_seqs: Floats, kv_tokens: Floats) -> Decoding:
        mean_tokens = kv_tokens / np.maximum(num_seqs, 1.0)
        return Decoding(num_seqs, mean_tokens, mean_tokens + beyond_tokens)

    steps, num_seqs, kv_tokens = np.array(found.pure, dtype=np.float64).reshape(-1, 3).T
    alone_s = float((steps * pure_s(c, decoding(num_seqs, kv_tokens))).sum())
    num_seqs, kv_tokens, tokens, chunks = np.array(found.mixed, dtype=np.float64).reshape(-1, 4).T
    beside_s = float(mixed_s(c, decoding(num_seqs, kv_tokens), tokens).sum()) + c.s_s_per_seq * float(chunks.sum())
    again_tokens, prefix_tokens = np.array(found.again, dtype=np.float64).reshape(-1, 2).T
    return alone_s + beside_s + c.b_s_per_token2 * float(c.attention_work(again_tokens, prefix_tokens).sum())
