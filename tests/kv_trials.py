"""Rows of a design of the KV lab with a known effect, drawn and not simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvsim.lab.kv.design import PHASES, Design
from kvsim.lab.kv.trial import PhaseRow, RequestRow, Trials

PROMPT, OUTPUT, HIT = 100, 5, 64
BASES = ("cold", "control_cold", "server", "first", "run")


def design_tree(**changes: Any) -> dict[str, Any]:
    """A design as its file has it, with every default."""
    asked = {"question": "Does it pay?", "server": "vllm serve Qwen/Qwen3-8B", "gpu": "h100", "family": "shared"}
    return Design.model_validate(asked | changes).model_dump(mode="json", by_alias=True)


def trials(
    effect_ms: float = -20.0,
    repeats: Sequence[int] = range(5),
    points: Sequence[Mapping[str, float]] = ({},),
    seed: int = 1,
    noise: float = 0.2,
    backend: str = "simulated",
    requests: int = 4,
    **changes: Any,
) -> Trials:
    """Rows in which TTFT of the second phase is 60 ms and ``effect_ms`` in the mean, that of the first 60 ms."""
    tree = design_tree(**changes)
    phases: list[PhaseRow] = []
    answered: list[RequestRow] = []
    for point, at in enumerate(points):
        for repeat in repeats:
            draws = np.random.default_rng([seed, point, repeat])
            names = list(PHASES[tree["compare"]])
            if tree["order"] == "alternate" and repeat % 2:
                names.reverse()
            for order, phase in enumerate(names):
                mean_ms = 60.0 if phase in BASES else 60.0 + effect_ms
                # Mean one, skewed to the right.
                factors = draws.lognormal(-noise * noise / 2, noise, requests)
                own = [_request(point, repeat, phase, place, mean_ms * f) for place, f in enumerate(factors)]
                answered += own
                phases.append(_phase(point, at, repeat, phase, order, own))
    return Trials(
        name="drawn", design=tree, backend=backend, phases=tuple(phases), requests=tuple(answered), server={"gpu": "h"}
    )


def _request(point: int, repeat: int, phase: str, place: int, ttft_ms: float) -> RequestRow:
    hit = HIT if phase not in BASES else 0
    return RequestRow(
        point=point,
        repeat=repeat,
        phase=phase,
        request=place,
        prompt_tokens=PROMPT,
        output_tokens=OUTPUT,
        cached_tokens=hit,
        expected_hit_tokens=hit,
        sent_s=float(place),
        first_token_s=place + ttft_ms / 1000,
        finish_s=place + ttft_ms / 1000 + 0.04,
        ttft_ms=ttft_ms,
        tpot_ms=10.0,
        e2e_ms=ttft_ms + 40.0,
        queue_ms=ttft_ms / 10,
    )


def _phase(
    point: int, at: Mapping[str, float], repeat: int, phase: str, order: int, own: Sequence[RequestRow]
) -> PhaseRow:
    ttft = [row.ttft_ms or 0.0 for row in own]
    last = max(row.finish_s or 0.0 for row in own)
    return PhaseRow(
        point=point,
        at=dict(at),
        repeat=repeat,
        phase=phase,
        order=order,
        family="shared",
        requests=len(own),
        completed=len(own),
        duration_s=last,
        requests_per_s=len(own) / last,
        output_tokens_per_s=OUTPUT * len(own) / last,
        ttft_mean_ms=float(np.mean(ttft)),
        ttft_p95_ms=float(np.quantile(ttft, 0.95)),
        tpot_mean_ms=10.0,
        e2e_mean_ms=float(np.mean(ttft)) + 40.0,
        e2e_p95_ms=float(np.quantile(ttft, 0.95)) + 40.0,
        prompt_tokens=PROMPT * len(own),
        cached_tokens=sum(row.cached_tokens or 0 for row in own),
        expected_hit_tokens=sum(row.expected_hit_tokens or 0 for row in own),
        prefix_queries=float(PROMPT * len(own)),
        prefix_hits=float(sum(row.cached_tokens or 0 for row in own)),
        counters="direct",
        preemptions=0,
        kv_tokens=1000,
        kv_usage_max=0.1,
    )
