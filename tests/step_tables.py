"""Tables of step times for tests: one by hand, and random ones."""

from __future__ import annotations

import random

import numpy as np
from builders import coefficients

from kvsim.steptime.curves.tables import Tables, TableStepTime

SMALL = Tables(
    dense=((1.0, 1.0), (3.0, 2.0), (7.0, 10.0)),
    head=((1.0, 0.25), (5.0, 0.5)),
    prefill_chunks=[1.0, 5.0],
    prefill_prefixes=[0.0, 10.0],
    prefill_s=[[0.5, 1.5], [2.5, 7.5]],
    decode_seqs=[1.0, 3.0],
    decode_contexts=[2.0, 6.0, 8.0],
    decode_s=[[1.0, 2.0, 4.0], [3.0, 4.0, 10.0]],
    mixed_chunks=[1.0, 3.0],
    mixed_s=[[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], [[3.0, 3.0, 3.0], [6.0, 6.0, 6.0]]],
    launch_s=0.5,
    straggler_s_per_token=0.1,
    straggler_min_seqs=2,
    straggler_mixed_s_per_token=0.2,
)


def table_times(tables: Tables = SMALL, sizes: tuple[int, ...] = ()) -> TableStepTime:
    return TableStepTime(tables, coefficients(const_s=1.0), sizes)


def random_tables(rng: random.Random) -> Tables:
    """Of ascending times over a few places, as awkward as tests with tiny requests need."""

    def rising(count: int) -> list[float]:
        return np.cumsum([rng.uniform(0.01, 0.5) for _ in range(count)]).tolist()

    def grid(rows: int, columns: int) -> list[list[float]]:
        return [rising(columns) for _ in range(rows)]

    return Tables(
        dense=tuple(zip([1.0, 4.0, 9.0], rising(3), strict=True)),
        head=tuple(zip([1.0, 4.0], rising(2), strict=True)),
        prefill_chunks=[1.0, 6.0],
        prefill_prefixes=[0.0, 7.0],
        prefill_s=grid(2, 2),
        decode_seqs=[1.0, 3.0],
        decode_contexts=[1.0, 3.5, 7.0, 12.0],
        decode_s=grid(2, 4),
        mixed_chunks=[1.0, 5.0],
        mixed_s=[grid(2, 4), grid(2, 4)],
        launch_s=0.001,
        straggler_s_per_token=rng.choice([0.0, 0.01]),
        straggler_min_seqs=2,
        straggler_mixed_s_per_token=rng.choice([0.0, 0.02]),
    )
