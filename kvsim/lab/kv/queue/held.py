"""What requests hold of a budget over time: footprints that are kept whole, or pages as an engine takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.lab.kv.queue.waits import Queue
from kvsim.record.binned import Floats
from kvsim.record.detail import Detail
from kvsim.workload.workload import Ints

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Held:
    """Levels that hold from each time to the next; the last ones are 0."""

    times_s: Floats
    blocks: Ints
    running: Ints
    waiting: Ints

    @property
    def peak_blocks(self) -> int:
        """The most at a time."""
        return int(self.blocks.max())

    @property
    def block_s(self) -> float:
        """Blocks, integrated over time."""
        return float(np.dot(self.blocks[:-1], np.diff(self.times_s)))

    @property
    def running_s(self) -> float:
        """Requests that run, integrated over time."""
        return float(np.dot(self.running[:-1], np.diff(self.times_s)))


def held_whole(queue: Queue) -> Held:
    """Footprints from admission to the last token, at each change."""
    times_s = queue.changes_s()
    rows = [(queue.running(now_s), queue.waiting(now_s)) for now_s in times_s]
    return Held(
        times_s=times_s,
        blocks=np.array([int(queue.blocks[running].sum()) for running, _ in rows], dtype=np.int64),
        running=np.array([len(running) for running, _ in rows], dtype=np.int64),
        waiting=np.array([len(waiting) for _, waiting in rows], dtype=np.int64),
    )


def held_pages(detail: Detail, block_size: int, *, is_async: bool) -> Held:
    """Blocks in use, and requests, as each step was scheduled; what is freed between two schedulings counts up to the
    later one. Who is preempted waits again. Of an engine that was run step by step."""
    steps = detail.steps
    start_s, end_s = steps["start_s"], steps["end_s"]
    is_ahead = _scheduled_ahead(detail, block_size) if is_async else np.zeros(len(start_s), dtype=np.bool_)
    at_s = np.where(is_ahead, np.append(start_s[:1], start_s[:-1]), start_s)
    rests = np.append(start_s[1:] > end_s[:-1], True)
    times_s = np.concatenate((at_s, end_s[rests]))
    order = np.argsort(times_s, kind="stable")
    nobody = np.zeros(int(rests.sum()))
    times_s = times_s[order]
    is_last = np.append(times_s[1:] > times_s[:-1], True)

    def levels(name: str) -> Ints:
        return np.asarray(np.concatenate((steps[name], nobody))[order][is_last], dtype=np.int64)

    return Held(times_s[is_last], levels("kv_blocks"), levels("running"), levels("waiting"))


def _scheduled_ahead(detail: Detail, block_size: int) -> Flags:
    """Steps that were scheduled as the one before began. Those of an engine that schedules ahead are, but where there
    was nothing to schedule then: nobody in it decodes, or is in the step before, and nobody else holds a block."""
    steps, chunks = detail.steps, detail.chunks
    follows = np.append(False, steps["start_s"][1:] == steps["end_s"][:-1])
    rows = chunks["step"].astype(np.int64)
    own = np.zeros(len(follows))
    np.add.at(own, rows, -(-(chunks["before"] + chunks["tokens"]) // block_size))
    parts = set(zip(rows.tolist(), chunks["request_id"].tolist(), strict=True))
    goes_on = np.zeros(len(follows), dtype=np.bool_)
    goes_on[[row for row, request in parts if (row - 1, request) in parts]] = True
    return np.asarray(follows & ((steps["decode_seqs"] > 0) | goes_on | (steps["kv_blocks"] > own)), dtype=np.bool_)
