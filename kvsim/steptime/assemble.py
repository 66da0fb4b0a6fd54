"""From operators of one layer to the time of a whole step on one instance.

One rule set for all hardware:

- every operator of a layer runs once a layer, the layer norm twice, what stands in ``ONCE`` once a step;
- a tensor-parallel instance adds two all-reduces a layer and one behind the embedding, as measured or by arithmetic;
- data-parallel engines that share experts run those together, and exchange tokens: not here
  (``kvsim.steptime.shared_experts``);
- a batch of decodes waits for its longest sequence, by what profiled batches of two context lengths lose to the longer
  one for each token that it exceeds the mean by, once its KV heads fill the GPU's multiprocessors: from
  n* = 0.8 x 2 x SMs / KV heads a GPU on, and in a step that also prefills always;
- what decodes add to a step that also prefills is taken from measured mixed steps. Else it follows from the kernel:
  FlashAttention-2 runs each decode as a tile of a prefill, most of whose rows are empty (``Shape.decode_tile_rows``):
  it takes as long as so many prefilled tokens on its context, or as reading its KV, whichever is longer. Where one
  kernel packs the heads of a group into a tile it is ``MIXED_FACTOR`` x what decodes cost alone, and where decodes have
  a kernel of their own it is just that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kvsim.steptime.curves.coefficients import Knots, extended
from kvsim.steptime.curves.tables import Tables
from kvsim.steptime.operators import Floats, Operators

ONCE = frozenset({"embedding", "final_layernorm"})
TWICE_A_LAYER = frozenset({"layernorm"})
ALLREDUCE = "allreduce"
MLP = frozenset({"gate_up_proj", "act_fn", "down_proj"})
MIXED_FACTOR = 1.5
"""FlashAttention-3's, whose mixed steps no operator table has; chosen on the open loop of an H100
(docs/validation.md)."""
ONSET_OF_STRAGGLERS = 0.8 * 2
"""KV heads a multiprocessor: two work on one at a time, and the last round is not full."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a model, an instance and its GPUs that decide how operators add up."""

    num_layers: int
    kv_heads_per_gpu: float
    num_sms: int
    allreduce_s: Callable[[Floats], Floats] | None
    """Seconds of an all-reduce of the hidden states of so many tokens; ``None``: one GPU."""
    straggler_s_per_token: float
    """Seconds of one layer, where it was not measured."""
    host_s: float
    """Host time a step that the GPU does not hide."""
    host_s_per_seq: float
    num_dense_layers: int = 0
    """Layers of a mixture of experts that have no experts."""
    experts_on_rank: float = 0.0
    expert_share: float = 0.0
    """Share of all the experts that one token goes to."""
    expert_parallel: float = 1.0
    """GPUs that experts are split over whole; fewer where some hold one more: the inverse of their share."""
    decode_tile_rows: int = 0
    """Rows of a prefill's tile that one decode takes beside a prefill, for each of its heads; 0: heads share tiles."""
    decodes_apart: bool = False
    """Whether decodes beside a prefill have a kernel of their own."""
    is_member: bool = False
    """Whether experts and exchanges are apart: engines run them together (``kvsim.steptime.shared_experts``)."""
    embeds: bool = True
    """Whether it is the first stage of a pipeline, or there is none."""
    normalises: bool = True
    """Whether it is the last one."""
    remaining_allreduces: float = 1.0
    """Share of the all-reduce behind a layer's experts that its own GPUs still have where it is a member."""


def assemble(operators: Operators, shape: Shape) -> Tables:
    """The tables of a whole step. The operators are sound: :mod:`kvsim.validate.calibrate` has checked them."""
    attention, layers = operators.attention, shape.num_layers
    prefill = attention[(attention[:, 0] > 0) & (attention[:, 2] == 0)]
    decode = attention[(attention[:, 0] == 0) & (attention[:, 2] > 0)]
    chunks, prefixes = np.unique(prefill[:, 0]), np.unique(prefill[:, 1])
    seqs, contexts = np.unique(decode[:, 2]), np.unique(decode[:, 3])
    prefill_s = gridded(prefill[:, [0, 1, 4]], chunks, prefixes)
    decode_s = gridded(decode[:, [2, 3, 4]], seqs, contexts)
    mixed_chunks, mixed_s = _mixed(attention, (chunks, prefixes, prefill_s), (seqs, contexts, decode_s), shape)
    min_seqs, alone_s, beside_s = _stragglers(operators.straggler, shape)
    return Tables(
        dense=_knots(*dense_parts(operators, shape)),
        head=_knots(*head_parts(operators, shape)),
        prefill_chunks=chunks.tolist(),
        prefill_prefixes=prefixes.tolist(),
        prefill_s=(prefill_s * layers).tolist(),
        decode_seqs=seqs.tolist(),
        decode_contexts=contexts.tolist(),
        decode_s=(decode_s * layers).tolist(),
        mixed_chunks=mixed_chunks.tolist(),
        mixed_s=[(grid * layers).tolist() for grid in mixed_s],
        launch_s=float(prefill_s.min()) * layers,
        straggler_s_per_token=alone_s * layers,
        straggler_min_seqs=min_seqs,
        straggler_mixed_s_per_token=beside_s * layers,
    )


def gridded(rows: Floats, first: Floats, second: Floats) -> Floats:
    """``rows`` of (x, y, value) on the grid ``first`` x ``second``; holes are read along the rows, which are linear
    between the measured places and go on beyond them."""
    grid = np.full((len(first), len(second)), np.nan)
    for place, x in enumerate(first):
        own = rows[rows[:, 0] == x]
        own = own[np.argsort(own[:, 1])]
        if len(own) > 1:
            grid[place] = extended(second, tuple(map(tuple, own[:, 1:])))
        elif len(own):
            grid[place] = own[0, 2]
    found: Floats = np.maximum(grid, 0.0)
    return found


def _mixed(
    attention: Floats,
    prefill: tuple[Floats, Floats, Floats],
    decode: tuple[Floats, Floats, Floats],
    shape: Shape,
) -> tuple[Floats, list[Floats]]:
    """What decodes add: measured mixed steps on the shortest prefix less the prompt's own attention.

    ``prefill`` and ``decode``: two axes and the grid on them.
    """
    chunks, prefixes, prefill_s = prefill
    seqs, contexts, alone_s = decode
    mixed = attention[(attention[:, 0] > 0) & (attention[:, 2] > 0)]
    mixed = mixed[mixed[:, 1] == mixed[:, 1].min()] if len(mixed) else mixed
    mixed_chunks = np.unique(mixed[:, 0])
    if len(mixed_chunks) < 2:
        return np.array([1.0, 2.0]), [_beside(prefill, decode, shape)] * 2
    grids = []
    for chunk in mixed_chunks:
        rows = mixed[mixed[:, 0] == chunk]
        own_s = _at(chunks, prefixes, prefill_s, chunk, rows[0, 1])
        added = np.column_stack((rows[:, 2:4], np.maximum(rows[:, 4] - own_s, 0.0)))
        grids.append(_filled(gridded(added, seqs, contexts), alone_s))
    return mixed_chunks, grids


def _beside(prefill: tuple[Floats, Floats, Floats], decode: tuple[Floats, Floats, Floats], shape: Shape) -> Floats:
    """What decodes add where no mixed step was measured: by the kernel that runs them."""
    chunks, _, prefill_s = prefill
    seqs, contexts, alone_s = decode
    if shape.decodes_apart:
        return alone_s
    if not shape.decode_tile_rows:
        return alone_s * MIXED_FACTOR
    pair_s = prefill_s[-1, 0] / (chunks[-1] ** 2 / 2)
    found: Floats = np.maximum(alone_s, pair_s * shape.decode_tile_rows * np.outer(seqs, contexts))
    return found


def _filled(grid: Floats, alone_s: Floats) -> Floats:
    """Batch sizes that were not measured: in the proportion to their time alone that the next smaller has."""
    for place in range(len(grid)):
        if np.isnan(grid[place]).any():
            known = grid[place - 1] / np.maximum(alone_s[place - 1], 1e-12) if place else MIXED_FACTOR
            grid[place] = alone_s[place] * known
    return grid


def _at(chunks: Floats, prefixes: Floats, prefill_s: Floats, chunk: float, prefix: float) -> float:
    by_chunk = [float(np.interp(prefix, prefixes, row)) for row in prefill_s]
    return float(np.interp(chunk, chunks, by_chunk))


def dense_parts(operators: Operators, shape: Shape) -> tuple[Floats, dict[str, Floats]]:
    """Numbers of tokens, and there the seconds of a whole step that they decide, by operator."""
    places = np.unique(np.concatenate([rows[:, 0] for rows in operators.dense.values()]))
    found = {"host": np.full(len(places), float(shape.host_s))}
    for name, rows in operators.dense.items():
        calls = _calls(name, shape, mixture=len(operators.moe) > 0)
        found[name] = calls * extended(places, tuple(map(tuple, rows)))
    if len(operators.moe) and not shape.is_member:
        layers = shape.num_layers - shape.num_dense_layers
        found["experts"] = layers * experts_s(operators.moe, shape, places, shape.expert_parallel)
    if shape.allreduce_s is not None and ALLREDUCE not in operators.dense:
        found[ALLREDUCE] = _allreduces(shape) * shape.allreduce_s(places)
    return places, found


def head_parts(operators: Operators, shape: Shape) -> tuple[Floats, dict[str, Floats]]:
    """Numbers of sequences, and there the seconds of a whole step that they decide, by operator."""
    places = np.unique(np.concatenate([rows[:, 0] for rows in operators.per_sequence.values()]))
    found = {name: extended(places, tuple(map(tuple, rows))) for name, rows in operators.per_sequence.items()}
    return places, {"sequences": shape.host_s_per_seq * places} | found


def _knots(places: Floats, parts: dict[str, Floats]) -> Knots:
    total = np.sum(list(parts.values()), axis=0)
    return tuple((float(place), float(time_s)) for place, time_s in zip(places, total, strict=True))


def _calls(name: str, shape: Shape, *, mixture: bool) -> float:
    if name in ONCE:
        return int(shape.embeds if name == "embedding" else shape.normalises)
    if name == ALLREDUCE:
        return _allreduces(shape)
    if mixture and name in MLP:
        return shape.num_dense_layers
    return shape.num_layers * (2 if name in TWICE_A_LAYER else 1)


def _allreduces(shape: Shape) -> float:
    """Behind attention and MLP of each layer, and the embedding; shared experts exchange tokens instead."""
    exchanging = shape.num_layers - shape.num_dense_layers if shape.is_member else 0
    return 2 * shape.num_layers + int(shape.embeds) - exchanging * (1 - shape.remaining_allreduces)


def experts_s(moe: Floats, shape: Shape, everybody: Floats, gpus: float) -> Floats:
    """A layer's experts on one of ``gpus`` that they are split over, for ``everybody``'s tokens, routed evenly.

    Of T tokens a GPU computes T / gpus token's worth, and E (1 - (1 - k/E)^T) of its E experts are touched.
    """
    touched = shape.experts_on_rank * (1 - (1 - shape.expert_share) ** everybody)
    own = everybody / gpus
    token_axis, expert_axis = np.unique(moe[:, 0]), np.unique(moe[:, 1])
    grid = gridded(moe, token_axis, expert_axis)
    return np.array([_at(token_axis, expert_axis, grid, t, e) for t, e in zip(own, touched, strict=True)])


def _stragglers(rows: Floats, shape: Shape) -> tuple[float, float, float]:
    """Batch size at the onset, and seconds a token of one layer: alone, and beside prefills."""
    min_seqs = float(np.ceil(ONSET_OF_STRAGGLERS * shape.num_sms / shape.kv_heads_per_gpu))
    alone = rows[(rows[:, 1] == 0) & (rows[:, 0] >= min_seqs)]
    beside = rows[rows[:, 1] > 0]
    alone_s = float(np.median(alone[:, 2])) if len(alone) else shape.straggler_s_per_token
    beside_s = float(np.median(beside[:, 2])) if len(beside) else shape.straggler_s_per_token
    return min_seqs, max(alone_s, 0.0), max(beside_s, 0.0)
