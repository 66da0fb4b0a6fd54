"""Traffic whose reuse can be foretold: chats that go on for a few turns, among long prompts that never come back."""

from __future__ import annotations

import numpy as np

from kvsim.workload.accesses import Accesses

CHAT_BLOCKS, ALONE_BLOCKS = 4, 12
TURNS = 5
PAUSE_S = 60.0


def chats(prompts: int = 1500, seed: int = 1, *, sessions_known: bool = False, pause_s: float = PAUSE_S) -> Accesses:
    """One prompt a second or so: half are of chats, which come back after about a minute, four times."""
    draw = np.random.default_rng(seed)
    due: list[tuple[float, int, int]] = []
    rows: list[tuple[float, list[int], int, int]] = []
    next_key, chat, now_s = 1, 0, 0.0
    blocks_of: dict[int, list[int]] = {}
    while len(rows) < prompts:
        now_s += float(draw.exponential(1.0))
        due.sort()
        if due and due[0][0] <= now_s:
            _, chat_now, turn = due.pop(0)
        elif draw.random() < 0.75:
            rows.append((now_s, [0, *range(next_key, next_key + ALONE_BLOCKS)], -1, 0))
            next_key += ALONE_BLOCKS
            continue
        else:
            chat += 1
            chat_now, turn = chat, 0
            blocks_of[chat] = [0]
        blocks_of[chat_now] += range(next_key, next_key + CHAT_BLOCKS)
        next_key += CHAT_BLOCKS
        rows.append((now_s, list(blocks_of[chat_now]), chat_now, turn))
        if turn + 1 < TURNS:
            due.append((now_s + float(draw.normal(pause_s, 5)), chat_now, turn + 1))
    return accesses_of(rows, sessions_known=sessions_known)


def accesses_of(rows: list[tuple[float, list[int], int, int]], *, sessions_known: bool = False) -> Accesses:
    """Rows of time, keys, session, turn."""
    return Accesses(
        keys=[key for _, keys, _, _ in rows for key in keys],
        offsets=[0, *np.cumsum([len(keys) for _, keys, _, _ in rows]).tolist()],
        time_s=[time_s for time_s, *_ in rows],
        session_id=[session if sessions_known else -1 for _, _, session, _ in rows],
        turn=[turn if sessions_known else 0 for *_, turn in rows],
    )
