"""The step-time formula's coefficients that come nearest to tables."""

from __future__ import annotations

import numpy as np

from kvsim.steptime.curves.coefficients import Coefficients, Knots
from kvsim.steptime.curves.tables import Tables
from kvsim.steptime.operators import Floats
from kvsim.steptime.roofline import PREFILL_CHUNK_FLOOR_TOKENS

MOST_CONTEXT_TOKENS = 8192
"""Longer ones than that weigh nothing in the fit: caches thrash there, and no line fits both sides."""
MOST_BATCH_TOKENS = 1 << 19
"""Batches whose contexts together are longer weigh nothing in the fit either."""


def fitted(tables: Tables, most_knots: int = 24) -> Coefficients:
    """Least squares on relative errors, no coefficient below 0; the dense time keeps its ``most_knots`` best knots."""
    decode = _decode(tables)
    mixed = _mixed(tables)
    head0_s, head1_s = _head(tables)
    return Coefficients(
        w0_s=0.0,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=0.0,
        a_s_per_kv_token=decode[0],
        a_mixed_s_per_kv_token=mixed[0],
        straggler_s_per_token=tables.straggler_s_per_token,
        straggler_min_seqs=tables.straggler_min_seqs,
        b_s_per_token2=_prefill(tables),
        prefill_chunk_floor_tokens=PREFILL_CHUNK_FLOOR_TOKENS,
        s_s_per_seq=head1_s,
        comm0_s=0.0,
        comm1_s_per_token=0.0,
        const_s=head0_s + tables.launch_s,
        decode_s_per_seq=decode[1],
        decode_mixed_s_per_seq=mixed[1],
        decode_mixed_s_per_seq_token=mixed[2],
        straggler_mixed_s_per_token=tables.straggler_mixed_s_per_token,
        dense_knots=thinned(tables.dense, most_knots),
    )


def _decode(tables: Tables) -> list[float]:
    """Coefficients of K and n, behind the launch that is in every step."""
    seqs, contexts = np.meshgrid(tables.decode_seqs, tables.decode_contexts, indexing="ij")
    times_s = np.array(tables.decode_s)
    use = (contexts <= MOST_CONTEXT_TOKENS) & (seqs * contexts <= MOST_BATCH_TOKENS)
    terms = np.column_stack(((seqs * contexts)[use], seqs[use]))
    return _weighted(terms, times_s[use] - tables.launch_s, times_s[use] + _rest_s(tables, seqs[use], seqs[use]))


def _mixed(tables: Tables) -> list[float]:
    """Coefficients of K, n, and n x prefilled tokens."""
    shape = (len(tables.mixed_chunks), len(tables.decode_seqs), len(tables.decode_contexts))
    axes = np.meshgrid(tables.mixed_chunks, tables.decode_seqs, tables.decode_contexts, indexing="ij")
    chunks, seqs, contexts = axes
    added_s = np.array(tables.mixed_s).reshape(shape)
    use = (contexts <= MOST_CONTEXT_TOKENS) & (seqs * contexts <= MOST_BATCH_TOKENS)
    terms = np.column_stack(((seqs * contexts)[use], seqs[use], (seqs * chunks)[use]))
    return _weighted(terms, added_s[use], added_s[use] + _rest_s(tables, (seqs + chunks)[use], seqs[use]))


def _rest_s(tables: Tables, tokens: Floats, seqs: Floats) -> Floats:
    """A step's time without attention: errors of attention count relative to the whole step."""
    dense_tokens, dense_s = np.array(tables.dense).T
    head_seqs, head_s = np.array(tables.head).T
    found: Floats = np.interp(tokens, dense_tokens, dense_s) + np.interp(seqs, head_seqs, head_s)
    return found


def _prefill(tables: Tables) -> float:
    chunks, prefixes = np.meshgrid(tables.prefill_chunks, tables.prefill_prefixes, indexing="ij")
    times_s = np.array(tables.prefill_s)
    use = prefixes <= MOST_CONTEXT_TOKENS
    work = np.maximum(chunks, PREFILL_CHUNK_FLOOR_TOKENS) * (prefixes + chunks / 2)
    whole_s = times_s[use] + _rest_s(tables, chunks[use], np.ones(int(use.sum())))
    return _weighted(work[use][:, None], times_s[use] - tables.launch_s, whole_s)[0]


def _head(tables: Tables) -> tuple[float, float]:
    places, times_s = np.array(tables.head).T
    found = _weighted(np.column_stack((np.ones(len(places)), places)), times_s, times_s)
    return found[0], found[1]


def thinned(knots: Knots, most: int) -> Knots:
    """The ``most`` knots whose lines come nearest to all of them: those that are missed most come in one by one."""
    if len(knots) <= most:
        return knots
    xs, ys = np.array(knots).T
    kept = [0, len(xs) - 1]
    while len(kept) < most:
        missed = np.abs(np.interp(xs, xs[kept], ys[kept]) / ys - 1)
        kept = sorted({*kept, int(missed.argmax())})
        if missed.max() < 1e-3:
            break
    return tuple(knots[place] for place in kept)


def _weighted(terms: Floats, target_s: Floats, scale_s: Floats) -> list[float]:
    """Coefficients of the columns of ``terms``, none below 0: least squares on errors relative to ``scale_s``."""
    from scipy.optimize import nnls

    # Columns differ by many orders of magnitude: scaled, the solver's tolerance means the same for each.
    weighted = terms / scale_s[:, None]
    norm = np.linalg.norm(weighted, axis=0)
    norm[norm == 0] = 1.0
    found, _ = nnls(weighted / norm, target_s / scale_s)
    return [float(value) for value in found / norm]
