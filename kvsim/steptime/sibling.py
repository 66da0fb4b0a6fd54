"""Step times of a part that was not measured, from those of one that was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.spec import InstanceSpec
from kvsim.spec.operator_weights import LM_HEAD
from kvsim.steptime.assemble import ONSET_OF_STRAGGLERS
from kvsim.steptime.curves.coefficients import Coefficients, Knots
from kvsim.steptime.operators import Floats
from kvsim.steptime.roofline import Efficiencies, roofline
from kvsim.steptime.work import expert_starts_s, weights_of

LEAST_OF_LAYERS = 0.5
"""Share of what was measured by tokens that is left to the layers when modelled all-reduces are taken out of it."""


def scaled_to(
    measured: Coefficients, sibling: InstanceSpec, target: InstanceSpec, efficiencies: Efficiencies
) -> Coefficients:
    """``measured`` belongs to ``sibling``; each term is multiplied by what the roofline says it grows by.

    The host's overheads stay: they are the CPU's. Attention's cost of a sequence grows with the layers, and so does
    what every step of a formula with knots has, but for reading the output projection. Of wider weights a step takes
    longer by what more there is to read or to compute, at most in proportion: what narrow ones take beyond their
    roofline is no matter of the type. All-reduces over NVLink give way to the target's own where it has none. A window
    that was measured is in ``measured`` already.
    """
    here, there = roofline(sibling, efficiencies), roofline(target, efficiencies)
    layers = target.model.num_layers / sibling.model.num_layers
    reading = there.a_s_per_kv_token / here.a_s_per_kv_token
    heads = max(1.0, target.model.num_kv_heads / target.tensor_parallel)
    return replace(
        measured,
        w0_s=measured.w0_s * _ratio(there.w0_s, here.w0_s),
        w1_s_per_token=measured.w1_s_per_token * layers,
        p0_s=measured.p0_s * layers,
        p1_s_per_token=measured.p1_s_per_token * _ratio(there.p1_s_per_token, here.p1_s_per_token),
        a_s_per_kv_token=measured.a_s_per_kv_token * reading,
        a_mixed_s_per_kv_token=measured.a_mixed_s_per_kv_token * reading,
        b_s_per_token2=measured.b_s_per_token2 * _ratio(there.b_s_per_token2, here.b_s_per_token2),
        comm0_s=measured.comm0_s * _ratio(there.comm0_s, here.comm0_s),
        comm1_s_per_token=measured.comm1_s_per_token * _ratio(there.comm1_s_per_token, here.comm1_s_per_token),
        const_s=_const_s(measured, sibling, target, efficiencies) if measured.dense_knots else measured.const_s,
        decode_s_per_seq=measured.decode_s_per_seq * layers,
        decode_mixed_s_per_seq=measured.decode_mixed_s_per_seq * layers,
        decode_mixed_s_per_seq_token=measured.decode_mixed_s_per_seq_token * layers,
        straggler_s_per_token=measured.straggler_s_per_token * layers,
        straggler_mixed_s_per_token=measured.straggler_mixed_s_per_token * layers,
        straggler_min_seqs=float(np.ceil(ONSET_OF_STRAGGLERS * target.gpu.num_sms / heads)),
        window_share=0.0 if here.window_share else there.window_share,
        window_tokens=there.window_tokens,
        dense_knots=_dense_knots(measured.dense_knots, sibling, target, efficiencies) if measured.dense_knots else (),
    )


def _dense_knots(measured: Knots, sibling: InstanceSpec, target: InstanceSpec, efficiencies: Efficiencies) -> Knots:
    """First to the type of weights, then to all else. How long experts take to start is no matter of either."""
    tokens, times_s = np.array(measured).T
    starts_s = np.minimum(expert_starts_s(sibling), times_s * (1 - LEAST_OF_LAYERS))
    times_s = times_s - starts_s
    retyped = replace(sibling, weight_dtype=target.weight_dtype)
    here, own, there = (roofline(spec, efficiencies) for spec in (sibling, retyped, target))
    linked_s = sums_s = np.zeros(len(tokens))
    if sibling.gpu.has_nvlink and not target.gpu.has_nvlink:
        linked_s, sums_s = _comm_s(here, tokens), _comm_s(there, tokens)
    times_s = np.maximum(times_s - linked_s, times_s * LEAST_OF_LAYERS)
    here_s, own_s = here.dense_s(tokens) - linked_s, own.dense_s(tokens) - linked_s
    in_proportion_s = times_s * (own_s / here_s)
    times_s = np.where(own_s > here_s, np.minimum(in_proportion_s, times_s + own_s - here_s), in_proportion_s)
    found_s = times_s * ((there.dense_s(tokens) - sums_s) / own_s) + sums_s + starts_s
    return tuple(zip(tokens.tolist(), found_s.tolist(), strict=True))


def _comm_s(coefficients: Coefficients, tokens: Floats) -> Floats:
    found: Floats = coefficients.comm0_s + coefficients.comm1_s_per_token * tokens
    return found


def _const_s(measured: Coefficients, sibling: InstanceSpec, target: InstanceSpec, efficiencies: Efficiencies) -> float:
    """What every step has: the output projection is read, whose share by degree is lost in gathering logits, and
    attention starts in every layer."""
    here_s, there_s = _head_s(sibling, efficiencies), _head_s(target, efficiencies)
    head_s = min(here_s / sibling.tensor_parallel, measured.const_s)
    layers = target.model.num_layers / sibling.model.num_layers
    return head_s * there_s / here_s + (measured.const_s - head_s) * layers


def _head_s(spec: InstanceSpec, efficiencies: Efficiencies) -> float:
    """Seconds in which one GPU reads the whole output projection."""
    return weights_of(spec)[LM_HEAD].num_bytes / (spec.gpu.hbm_bytes_per_s * efficiencies.weight_reading)


def _ratio(above: float, below: float) -> float:
    return above / below if below else 1.0
