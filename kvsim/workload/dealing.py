"""Dealing requests to cells, by what a gateway sees that knows no loads: who belongs together, and who came first."""

from __future__ import annotations

import numpy as np

from kvsim.workload.graph import Ints
from kvsim.workload.workload import Workload


def dealt(workload: Workload, cells: int) -> Ints:
    """The cell, from 0 on, of each request: sessions are dealt in turn, in the order in which they begin.

    What belongs together goes to one cell: the requests of a session, and those that wait for one another. Who has no
    session, and waits for nobody, is dealt alone.
    """
    found: Ints = belongings(workload) % cells
    return found


def belongings(workload: Workload) -> Ints:
    """For each request the number of what it belongs to, from 0 on in the order in which these begin: its session, with
    whatever waits for requests of it or the other way round; who has no session, and waits for nobody, is alone.
    """
    count = len(workload)
    if not count:
        return np.zeros(0, dtype=np.int64)
    alone = workload.session_id < 0
    key = np.where(alone, -1 - np.arange(count, dtype=np.int64), workload.session_id)
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    if workload.graph is not None:
        place = _connected(place, len(first), workload.graph.rows(), workload.graph.on)
        _, first, place = np.unique(place, return_index=True, return_inverse=True)
    turn = np.empty(len(first), dtype=np.int64)
    turn[np.argsort(first, kind="stable")] = np.arange(len(first))
    found: Ints = turn[place]
    return found


def _connected(place: Ints, sessions: int, row: Ints, on: Ints) -> Ints:
    """For each request the number of what its session, of ``place``, hangs together with by requests that wait."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(row), dtype=np.int8), (place[row], place[on])), shape=(sessions, sessions))
    _, label = connected_components(edges, directed=False)
    found: Ints = label.astype(np.int64)[place]
    return found
