"""What no deployment can do better than, by arithmetic: bounds, which hold whatever is cached and however it is routed.

A request computes at least what a cache that forgets nothing lacks of its prompt. Of a step's time only what its number
of tokens decides, the KV that it reads and the attention of its prompts are counted; everything else adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.recommend.slo import Slo
from kvsim.steptime import Coefficients
from kvsim.units import MILLI
from kvsim.workload.hits import seen_tokens
from kvsim.workload.workload import Floats, Workload

_MOST_KNOTS = 200


@dataclass(frozen=True, eq=False)
class Asked:
    """What requests ask for at the least, one entry a request."""

    prompt_tokens: Floats
    computed_tokens: Floats
    """What no earlier request had; the last token at least."""
    decode_tokens: Floats
    """Tokens of answers behind the first one."""
    private_tokens: Floats
    """Prompt tokens that no other request has."""

    @classmethod
    def of(cls, workload: Workload, plan: Plan) -> Asked:
        """The requests of ``workload`` as a server of ``plan`` takes them, those that it does not fit included."""
        prompts = workload.prompt_tokens.astype(np.float64)
        limit = plan.config.model.max_model_len
        answers = np.maximum(np.minimum(workload.output_tokens, limit - prompts), 1.0)
        caches = plan.prefill_settings.enable_prefix_caching
        seen = seen_tokens(workload) if caches else np.zeros(len(workload))
        alone = ~_shared_pieces(workload)
        private = np.bincount(
            np.repeat(np.arange(len(workload)), np.diff(workload.piece_offsets)),
            weights=(workload.piece_tokens * alone).astype(np.float64),
            minlength=len(workload),
        )
        return cls(
            prompts, np.maximum(prompts - seen, 1.0), answers - 1, private.astype(np.float64) if caches else prompts
        )

    @cached_property
    def longest_share(self) -> Floats:
        """Share of all decoded tokens in the longest answers, by how many of these there are."""
        tokens = np.sort(self.decode_tokens)[::-1]
        total = tokens.sum()
        return np.concatenate(([0.0], np.cumsum(tokens) / total if total else np.zeros(len(tokens))))


def _shared_pieces(workload: Workload) -> np.ndarray:
    """Which pieces of prompts are on chains that other requests are on as well."""
    chain = workload.piece_chain
    on = np.concatenate((chain, workload.output_chain))
    found, where, counts = np.unique(on, return_inverse=True, return_counts=True)
    several = (counts > 1) & (found >= 0)
    shared: np.ndarray = several[where[: len(chain)]]
    return shared


@dataclass(frozen=True)
class Bounds:
    """What one server of a kind of deployment can do at the best."""

    prefill_per_s: float
    """Requests/s of a prefill server, or of a unified one."""
    decode_per_s: float
    """Requests/s of a decode server; of a unified one as ``prefill_per_s``."""
    ttft_share: float
    """Share of requests whose prompt, alone on an engine, is computed within the limit of TTFT."""
    tpot_share: float
    """Share of requests whose answer, alone on an engine, keeps the limit of TPOT."""
    fitting_share: float
    """Share of requests that fit an engine's KV cache and the model's longest sequence."""
    ttft_floor_ms: float
    """TTFT that the wanted share of requests takes at the least, and so on."""
    tpot_floor_ms: float
    e2e_floor_ms: float


def bounds_of(plan: Plan, asked: Asked, slo: Slo, *, is_pd: bool) -> Bounds:
    """The bounds of the servers of ``plan`` under ``asked``."""
    group, first = plan.engines_in_step, plan.prefill if is_pd else plan.colocated
    last = plan.decode if is_pd else plan.colocated
    prefills, decodes = _Engine(first), _Engine(last)
    ttft_s, tpot_s = prefills.alone_ttft_s(asked), decodes.alone_tpot_s(asked)
    both = prefills.seconds(asked, prompts=True, answers=not is_pd, slo=slo)
    after = decodes.seconds(asked, prompts=False, answers=True, slo=slo) if is_pd else both
    engines = max(group, 1)
    return Bounds(
        prefill_per_s=engines / both,
        decode_per_s=engines / after if after else np.inf,
        ttft_share=float((ttft_s <= slo.ttft_ms * MILLI).mean()),
        tpot_share=float((tpot_s <= slo.tpot_ms * MILLI).mean()),
        fitting_share=_fitting_share(plan, asked, is_pd=is_pd),
        ttft_floor_ms=_at(ttft_s, slo.share) / MILLI,
        tpot_floor_ms=_at(tpot_s, slo.share) / MILLI,
        e2e_floor_ms=_at(ttft_s + tpot_s * asked.decode_tokens, slo.share) / MILLI,
    )


def _at(values: Floats, share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def _fitting_share(plan: Plan, asked: Asked, *, is_pd: bool) -> float:
    whole = asked.prompt_tokens + asked.decode_tokens + 1
    fits = asked.prompt_tokens < plan.config.model.max_model_len
    if is_pd:
        fits &= asked.prompt_tokens <= plan.prefill_settings.room_tokens
        return float((fits & (whole <= plan.decode_settings.room_tokens)).mean())
    return float((fits & (whole <= plan.colocated_settings.room_tokens)).mean())


class _Engine:
    """The least that an engine takes for what is asked of it."""

    def __init__(self, instance: Instance) -> None:
        self._c: Coefficients = instance.step_time.coefficients
        self._settings = instance.settings
        speculation = instance.settings.speculation
        self._per_step = 1.0 if speculation is None else 1.0 + speculation.num_tokens
        """Tokens that a step can give a sequence."""

    def alone_ttft_s(self, asked: Asked) -> Floats:
        """To compute each prompt alone: full steps of the token budget, and one with the rest."""
        c, budget = self._c, float(self._settings.max_num_batched_tokens)
        if not self._settings.enable_chunked_prefill:
            budget = np.inf
        tokens = asked.computed_tokens
        full = np.floor(tokens / budget) if np.isfinite(budget) else np.zeros(len(tokens))
        rest = tokens - (full * budget if np.isfinite(budget) else 0.0)
        at_full = float(c.dense_s(np.array([budget]))[0]) if np.isfinite(budget) else 0.0
        least = self._hull(budget if np.isfinite(budget) else float(tokens.max()))
        work = c.b_s_per_token2 * self._work(asked)
        found: Floats = full * min(at_full, np.inf) + np.where(rest > 0, least.at(rest), 0.0) + work
        return found

    def alone_tpot_s(self, asked: Asked) -> Floats:
        """A decode step of one sequence with half its answer behind it, over the tokens that it gives at the best."""
        c = self._c
        contexts = asked.prompt_tokens + asked.decode_tokens / 2
        step_s = float(self._hull(2.0).at(np.ones(1))[0]) + c.a_s_per_kv_token * c.read_tokens(contexts)
        found: Floats = np.where(asked.decode_tokens > 0, step_s / self._per_step, 0.0)
        return found

    def seconds(self, asked: Asked, *, prompts: bool, answers: bool, slo: Slo) -> float:
        """Engine-seconds that a request takes at the least, in the mean.

        N steps a request that carry T tokens take ``N h(T / N)`` at the least, ``h`` being the largest convex function
        below a step's time, and more the more steps they are. There are as many as the token budget and the number of
        sequences that can decode at a time make.
        """
        c, settings = self._c, self._settings
        computed = float(asked.computed_tokens.mean()) if prompts else 0.0
        decoded = float(asked.decode_tokens.mean()) if answers else 0.0
        tokens, steps = computed + decoded / self._per_step, 0.0
        if not tokens:
            return 0.0
        budget = float(settings.max_num_batched_tokens)
        if settings.enable_chunked_prefill:
            steps = tokens / budget
        if answers and decoded:
            steps = max(steps, decoded / self._per_step / self._most_seqs(asked, slo))
        steps = max(steps, 1e-12)
        hull = self._hull(max(budget, tokens / steps))
        found = steps * float(hull.at(np.array([tokens / steps]))[0])
        if prompts:
            found += c.b_s_per_token2 * float(self._work(asked).mean())
        if answers:
            contexts = c.read_tokens(asked.prompt_tokens + asked.decode_tokens / 2)
            found += c.a_s_per_kv_token * float((contexts * asked.decode_tokens).mean()) / self._per_step
        return found

    def _work(self, asked: Asked) -> Floats:
        hits = asked.prompt_tokens - asked.computed_tokens
        work: Floats = self._c.attention_work(asked.computed_tokens, hits)
        return work

    def _most_seqs(self, asked: Asked, slo: Slo) -> float:
        """Sequences that can decode at a time, in the mean over steps: by seats, by room, and by the limit of TPOT.

        Who keeps the limit takes steps that are short enough in their mean; what the requests have that need not keep
        it, the longest answers at the most, comes on top.
        """
        settings, decoded = self._settings, asked.decode_tokens
        weight = decoded / decoded.sum()
        held = float((weight * (asked.private_tokens + decoded / 2)).sum())
        most = min(float(settings.max_num_seqs), max(settings.room_tokens / max(held, 1.0), 1.0))
        reads = float((weight * self._c.read_tokens(asked.prompt_tokens + decoded / 2)).sum())
        bad = int(np.ceil((1 - slo.share) * len(decoded)))
        good_share = max(1 - float(asked.longest_share[min(bad, len(decoded))]), 0.05)
        limit_s = slo.tpot_ms * MILLI * self._per_step
        seqs = np.arange(1.0, most + 1.0)
        hull = self._hull(max(most, 2.0))
        keeps = hull.at(seqs) + self._c.a_s_per_kv_token * seqs * reads <= limit_s
        within = float(seqs[keeps][-1]) + 1.0 if keeps.any() else 1.0
        return min(most, within / good_share)

    def _hull(self, most: float) -> _Hull:
        places = np.unique(np.round(np.geomspace(1.0, max(most, 2.0), _MOST_KNOTS)))
        return _Hull(places, self._c.dense_s(places))


class _Hull:
    """The largest convex function that is nowhere above given points."""

    def __init__(self, places: Floats, values: Floats) -> None:
        kept: list[tuple[float, float]] = []
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            while len(kept) > 1 and _is_above(kept[-2], kept[-1], (place, value)):
                kept.pop()
            kept.append((place, value))
        self._places, self._values = np.array(kept).T

    def at(self, places: Floats) -> Floats:
        found: Floats = np.interp(places, self._places, self._values)
        return found


def _is_above(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle point is not below the line between the others."""
    share = (middle[0] - left[0]) / (right[0] - left[0])
    return middle[1] >= left[1] + share * (right[1] - left[1])
