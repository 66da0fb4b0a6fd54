"""Random small traffic for property tests: shared prefixes, ties, short answers. ``rng`` may be Hypothesis' own."""

from __future__ import annotations

from random import Random

from builders import Row, coefficients, plan, served, workload

from kvsim.record.result import Table
from kvsim.sim.systems.pd import PdSystem


def random_rows(rng: Random, block_size: int, *, most: int = 9, grow_shared: float = 0.4) -> list[Row]:
    """A few requests over a small tree of shared chains, some alone; ``grow_shared``: how many answers are shared."""
    stem = rng.randint(1, 4 * block_size)
    branch = rng.randint(1, stem)
    parents = {
        0: (),
        1: ((0, stem),),
        2: ((0, branch),),
        3: ((0, stem), (1, rng.randint(1, 2 * block_size))),
    }
    rows = []
    now = 0.0
    for i in range(rng.randint(2, most)):
        now += rng.choice([0.0, 0.0, 0.5, 1.0, 3.0])
        own = -1 - i
        output_chain = own
        if rng.random() < 0.2:
            pieces = ((own, rng.randint(1, 5 * block_size)),)
        else:
            chain = rng.choice(list(parents))
            pieces = (*parents[chain], (chain, rng.randint(1, 3 * block_size)))
            if rng.random() < 0.5:
                pieces = (*pieces, (own, rng.randint(1, 2 * block_size)))
            elif rng.random() < grow_shared:
                output_chain = chain
        rows.append(Row(now, 0, rng.randint(1, 3 * block_size), pieces, output_chain, priority=rng.randrange(3)))
    return rows


def most_blocks(rows: list[Row], block_size: int) -> int:
    """Blocks of the longest request, answer included."""
    return max(-(-(sum(n for _, n in row.pieces) + row.output_tokens) // block_size) for row in rows)


def routed_table(prefill: str, decode: str) -> Table:
    """What 60 fixed requests on three prefill and three decode instances give under two routers."""
    times = coefficients(p1_s_per_token=0.125, w0_s=0.5, a_s_per_kv_token=0.015625)
    sets = (f"routing.prefill={prefill}", f"routing.decode={decode}")
    found = plan(3, 3, sets=sets, times=times, block_size=4, num_blocks=40, nic_bytes_per_s=2e4)
    rng = Random(3)
    rows = [Row(i * 0.3, 0, rng.randint(1, 9), ((rng.randrange(3), 12), (-1 - i, 5)), -1 - i) for i in range(60)]
    return served(PdSystem, found, workload(rows), 5).requests.table()
