"""How long one engine step takes."""

from __future__ import annotations

from typing import Literal

from kvsim.config.section import Factor, NonNegative, PositiveShare, Section


class Coefficients(Section):
    """``steptime.coefficients``: the step time of one whole instance.

    With T tokens in the step, n sequences that decode on K KV tokens in all (the longest on KVmax), and prefill chunks
    of c tokens on a prefix of p:

    ``t = max(w0 + w1 T, p0 + p1 T) + a K + beta max(0, KVmax - K/n) [n >= n*] + b sum(max(c, floor) (p + c/2))
    + s n_seq + comm0 + comm1 T + const``

    A step that also prefills takes ``a_mixed`` in place of ``a``; beta is ``straggler_s_per_token`` and n*
    ``straggler_min_seqs``.
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


class StepTime(Section):
    """``steptime``: the method, the roofline's efficiencies, and a profile's coefficients."""

    method: Literal["roofline", "fitted"]
    compute_efficiency: PositiveShare
    memory_efficiency: PositiveShare
    attention_memory_efficiency: PositiveShare
    attention_compute_efficiency: PositiveShare
    mixed_attention_factor: Factor
    allreduce_latency_us: NonNegative
    allreduce_efficiency: PositiveShare
    step_overhead_us: NonNegative
    sequence_overhead_us: NonNegative
    coefficients: Coefficients | None
