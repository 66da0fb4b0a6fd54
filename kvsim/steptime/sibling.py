"""Step times of a part that was not measured, from those of one that was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.spec import InstanceSpec
from kvsim.steptime.assemble import ONSET_OF_STRAGGLERS
from kvsim.steptime.curves.coefficients import Coefficients
from kvsim.steptime.roofline import Efficiencies, roofline


def scaled_to(
    measured: Coefficients, sibling: InstanceSpec, target: InstanceSpec, efficiencies: Efficiencies
) -> Coefficients:
    """``measured`` belongs to ``sibling``; each term is multiplied by what the roofline says it grows by.

    The host's overheads stay: they are the CPU's. Attention's cost of a sequence grows with the layers. A window that
    was measured is in ``measured`` already.
    """
    here, there = roofline(sibling, efficiencies), roofline(target, efficiencies)
    tokens = np.array([place for place, _ in measured.dense_knots] or [1.0])
    growth = there.dense_s(tokens) / here.dense_s(tokens)
    pairs = zip(measured.dense_knots, growth.tolist(), strict=False)
    knots = tuple((place, time_s * by) for (place, time_s), by in pairs)
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
        decode_s_per_seq=measured.decode_s_per_seq * layers,
        decode_mixed_s_per_seq=measured.decode_mixed_s_per_seq * layers,
        decode_mixed_s_per_seq_token=measured.decode_mixed_s_per_seq_token * layers,
        straggler_s_per_token=measured.straggler_s_per_token * layers,
        straggler_mixed_s_per_token=measured.straggler_mixed_s_per_token * layers,
        straggler_min_seqs=float(np.ceil(ONSET_OF_STRAGGLERS * target.gpu.num_sms / heads)),
        window_share=0.0 if here.window_share else there.window_share,
        window_tokens=there.window_tokens,
        dense_knots=knots,
    )


def _ratio(above: float, below: float) -> float:
    return above / below if below else 1.0
