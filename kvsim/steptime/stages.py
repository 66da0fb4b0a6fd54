"""Step times of a pipeline's stages, from those of one stage that has all layers: by arithmetic, nothing fitted.

Layers' times are shared out by layers: reading weights by their bytes, computing by parameters, experts by the layers
that have any, attention and all-reduces by layers. The output projection is the last stage's, and so is what every
sequence of a step has, sampling above all; the host's time a step is the first one's, where a batch begins its way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from kvsim.spec import InstanceSpec
from kvsim.spec.memory import passed_bytes
from kvsim.spec.operator_weights import EMBEDDING, EXPERTS, LM_HEAD, Weights
from kvsim.spec.stages import Stage
from kvsim.steptime.assemble import Shape, assemble
from kvsim.steptime.curves.coefficients import Coefficients, Knots
from kvsim.steptime.curves.pipeline import Send
from kvsim.steptime.curves.tables import Tables
from kvsim.steptime.operators import Floats, Operators
from kvsim.steptime.roofline import Efficiencies, ExpertParts, expert_parts
from kvsim.steptime.work import weights_of

PLACES = {float(1 << bits) for bits in range(18)}
"""Numbers of tokens between which it does not matter that another stage becomes the slowest."""
NO_HEAD: Knots = ((1.0, 0.0), (2.0, 0.0))


def formulas_of_stages(
    whole: Coefficients, spec: InstanceSpec, efficiencies: Efficiencies, *, has_head: bool
) -> tuple[Coefficients, ...]:
    """``whole``: of a stage that has all layers. ``has_head``: whether its times by tokens contain the output
    projection, as the roofline's do; those that were measured with knots have it in what every step has."""
    weights = weights_of(spec)
    parts = expert_parts(spec, efficiencies) if spec.model.is_moe else None
    head_s = 0.0
    if not has_head:
        read_bytes_per_s = spec.tensor_parallel * spec.gpu.hbm_bytes_per_s * efficiencies.weight_reading
        head_s = min(weights[LM_HEAD].num_bytes / read_bytes_per_s, whole.const_s)
    return tuple(_of_stage(whole, spec, stage, weights, parts, has_head, head_s) for stage in spec.stages)


def _of_stage(
    whole: Coefficients,
    spec: InstanceSpec,
    stage: Stage,
    weights: dict[str, Weights],
    parts: ExpertParts | None,
    has_head: bool,
    head_s: float,
) -> Coefficients:
    layers = stage.layer_share(spec.model)
    read, computed = _shares(stage, spec, weights, has_head)
    const_s = (whole.const_s - head_s if stage.is_first else 0.0) + (head_s if stage.is_last else 0.0)
    return replace(
        whole,
        w0_s=whole.w0_s * read,
        w1_s_per_token=whole.w1_s_per_token * layers,
        p0_s=whole.p0_s * layers,
        p1_s_per_token=whole.p1_s_per_token * computed,
        a_s_per_kv_token=whole.a_s_per_kv_token * layers,
        a_mixed_s_per_kv_token=whole.a_mixed_s_per_kv_token * layers,
        straggler_s_per_token=whole.straggler_s_per_token * layers,
        straggler_mixed_s_per_token=whole.straggler_mixed_s_per_token * layers,
        b_s_per_token2=whole.b_s_per_token2 * layers,
        s_s_per_seq=whole.s_s_per_seq if stage.is_last else 0.0,
        comm0_s=whole.comm0_s * layers,
        comm1_s_per_token=whole.comm1_s_per_token * layers,
        const_s=const_s,
        decode_s_per_seq=whole.decode_s_per_seq * layers,
        decode_mixed_s_per_seq=whole.decode_mixed_s_per_seq * layers,
        decode_mixed_s_per_seq_token=whole.decode_mixed_s_per_seq_token * layers,
        dense_knots=_knots(whole.dense_knots, stage, spec, parts, read, computed),
    )


def _shares(stage: Stage, spec: InstanceSpec, weights: dict[str, Weights], has_head: bool) -> tuple[float, float]:
    """A stage's share of the bytes and of the parameters of all weights but the experts'; without the vocabulary's
    where the times have it elsewhere."""
    left_out = {EXPERTS} if has_head else {EXPERTS, EMBEDDING, LM_HEAD}
    own_bytes = own_params = all_bytes = all_params = 0.0
    for operator, own in weights.items():
        if operator not in left_out:
            share = stage.weight_share(spec.model, operator)
            own_bytes += own.num_bytes * share
            own_params += own.params * share
            all_bytes += own.num_bytes
            all_params += own.params
    return own_bytes / all_bytes, own_params / all_params


def _knots(
    whole: Knots, stage: Stage, spec: InstanceSpec, parts: ExpertParts | None, read: float, computed: float
) -> Knots:
    """Each time is a stage's part of it; in a mixture of experts it is split into the experts' and all else's as the
    roofline has them."""
    if parts is None:
        return tuple((tokens, time_s * read) for tokens, time_s in whole)
    sparse, found = stage.sparse_share(spec.model), []
    for tokens, time_s in whole:
        place = max(tokens, 1.0)
        experts_s, others_s = parts.experts_s(place), parts.others_s(place)
        own_s = max(parts.read_others_s * read, parts.other_token_s * computed * place)
        found.append((tokens, time_s * (own_s + experts_s * sparse) / (experts_s + others_s)))
    return tuple(found)


def tables_of_stages(operators: Operators, shape: Shape, stages: tuple[Stage, ...], spec: InstanceSpec) -> list[Tables]:
    """Tables of each stage, whose operators were measured a layer each."""
    found = []
    for stage in stages:
        own = replace(
            shape,
            num_layers=stage.layers,
            num_dense_layers=stage.dense_layers(spec.model),
            host_s=shape.host_s if stage.is_first else 0.0,
            embeds=stage.is_first,
            normalises=stage.is_last,
        )
        tables = assemble(operators, own)
        found.append(tables if stage.is_last else replace(tables, head=NO_HEAD))
    return found


@dataclass(frozen=True)
class SendLinks:
    """What activations travel over from a stage to the next."""

    near_s: float
    """Seconds of a message between two GPUs of a host with next to nothing to move; the next, of two hosts."""
    far_s: float
    gather_s: float
    """Seconds of an all-gather among a stage's GPUs with next to nothing to move; 0 where there is one."""
    near_bytes_per_s: float
    """What a GPU achieves to one of its host, one direction; the next, to another host."""
    far_bytes_per_s: float
    gpus_per_host: int


def sends_of(spec: InstanceSpec, links: SendLinks) -> tuple[Send, ...]:
    """From each stage to the next: hidden states and residual in 16 bits. Each GPU sends its part of them to its
    counterpart, and the stage's GPUs gather the parts (``GroupCoordinator.isend_tensor_dict``).

    GPUs stand in the order of the stages, those of an instance from the beginning of a host on.
    """
    degree, token_bytes, found = spec.tensor_parallel, passed_bytes(spec.model), []
    is_spread = degree > links.gpus_per_host
    gather_bytes_per_s = links.far_bytes_per_s if is_spread else links.near_bytes_per_s
    gather_s = token_bytes * (degree - 1) / degree / gather_bytes_per_s
    for place in range(1, spec.pipeline_parallel):
        is_far = (place * degree) % links.gpus_per_host == 0
        one_s = links.far_s if is_far else links.near_s
        token_s = token_bytes / degree / (links.far_bytes_per_s if is_far else links.near_bytes_per_s)
        found.append((one_s + (links.gather_s if degree > 1 else 0.0), token_s + gather_s))
    return tuple(found)


def full_pipeline(stages: Iterable[Coefficients], sends: tuple[Send, ...]) -> Coefficients:
    """The formula that comes nearest to a pipeline that is full: as many batches as there are stages, each with an
    equal part of the tokens and sequences, taken for one step. The slowest stage decides how long that takes.
    """
    own, ways = list(stages), [*sends, (0.0, 0.0)]
    count = len(own)
    tokens = np.array(sorted({place for one in own for place in _places(one)} | PLACES))
    slowest_s = np.max(
        [one.dense_s(tokens) + way[0] + way[1] * tokens for one, way in zip(own, ways, strict=True)], axis=0
    )

    def most(name: str) -> float:
        return max(float(getattr(one, name)) for one in own)

    return replace(
        own[0],
        w0_s=0.0,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=0.0,
        comm0_s=0.0,
        comm1_s_per_token=0.0,
        const_s=0.0,
        dense_knots=_pairs(tokens * count, slowest_s * count),
        a_s_per_kv_token=most("a_s_per_kv_token"),
        a_mixed_s_per_kv_token=most("a_mixed_s_per_kv_token"),
        b_s_per_token2=most("b_s_per_token2"),
        s_s_per_seq=most("s_s_per_seq"),
        straggler_s_per_token=most("straggler_s_per_token") * count,
        straggler_mixed_s_per_token=most("straggler_mixed_s_per_token") * count,
        straggler_min_seqs=own[0].straggler_min_seqs * count,
        decode_s_per_seq=most("decode_s_per_seq"),
        decode_mixed_s_per_seq=most("decode_mixed_s_per_seq"),
        decode_mixed_s_per_seq_token=most("decode_mixed_s_per_seq_token") / count,
    )


def _places(one: Coefficients) -> list[float]:
    """Numbers of tokens where its time bends."""
    if one.dense_knots:
        return [place for place, _ in one.dense_knots]
    slope = one.p1_s_per_token - one.w1_s_per_token
    crossing = (one.w0_s - one.p0_s) / slope if slope else 0.0
    return [crossing] if crossing > 1 else []


def _pairs(tokens: Floats, time_s: Floats) -> Knots:
    return tuple(zip(tokens.tolist(), time_s.tolist(), strict=True))
