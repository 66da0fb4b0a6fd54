"""How long one engine step takes."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Strict

from kvsim.config.section import Factor, Name, NonNegative, Positive, PositiveShare, Section, Share


def _ascending(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    tokens = [knot[0] for knot in knots]
    if len(knots) == 1 or any(low >= high for low, high in pairwise(tokens)):
        raise ValueError("must be two or more pairs of (tokens, seconds), tokens ascending")
    return knots


Knots = Annotated[
    tuple[Annotated[tuple[NonNegative, NonNegative], Strict(False)], ...], Strict(False), AfterValidator(_ascending)
]


class Coefficients(Section):
    """``steptime.coefficients``: the step time of one whole instance.

    With T tokens in the step, n sequences that decode on K KV tokens in all (the longest on KVmax), and prefill chunks
    of c tokens on a prefix of p:

    ``t = max(w0 + w1 T, p0 + p1 T) + a K + d n + beta max(0, KVmax - K/n) [n >= n*] + b sum(max(c, floor) (p + c/2))
    + s n_seq + comm0 + comm1 T + const``

    A step that also prefills takes ``a_mixed`` in place of ``a``, and so on; beta is ``straggler_s_per_token`` and n*
    ``straggler_min_seqs``. ``dense_knots`` stands in place of the two lines. In ``window_share`` of the layers
    a token looks at ``window_tokens`` at most. Terms that a profile may leave out are 0.
    """

    w0_s: NonNegative
    w1_s_per_token: NonNegative
    p0_s: NonNegative
    p1_s_per_token: NonNegative
    a_s_per_kv_token: NonNegative
    a_mixed_s_per_kv_token: NonNegative
    straggler_s_per_token: NonNegative
    straggler_min_seqs: NonNegative
    b_s_per_token2: NonNegative
    prefill_chunk_floor_tokens: NonNegative
    s_s_per_seq: NonNegative
    comm0_s: NonNegative
    comm1_s_per_token: NonNegative
    const_s: NonNegative
    decode_s_per_seq: NonNegative = 0.0
    decode_mixed_s_per_seq: NonNegative = 0.0
    decode_mixed_s_per_seq_token: NonNegative = 0.0
    straggler_mixed_s_per_token: NonNegative = 0.0
    window_share: Share = 0.0
    window_tokens: NonNegative = 0.0
    dense_knots: Knots = ()


class StepTime(Section):
    """``steptime``: the method, the roofline's efficiencies, and a profile's coefficients or operator times."""

    method: Literal["roofline", "fitted", "tables"]
    compute_efficiency: PositiveShare
    memory_efficiency: PositiveShare
    attention_memory_efficiency: PositiveShare
    attention_compute_efficiency: PositiveShare
    mixed_attention_factor: Factor
    allreduce_latency_us: NonNegative
    allreduce_efficiency: PositiveShare
    pcie_allreduce_latency_us: NonNegative
    pcie_allreduce_gb_per_s: Positive
    step_overhead_us: NonNegative
    sequence_overhead_us: NonNegative
    coefficients: Coefficients | None
    operators: Name | None
