"""Traces that nobody would choose: each is one way of being odd."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HOUR_S = 3600.0
MODEL_TOKENS = 131_072
"""What the default model takes."""

Row = tuple[float, int, int]
"""Arrival in seconds, prompt tokens, output tokens."""


def odd_traces() -> dict[str, list[Row]]:
    """Name -> rows, always the same."""
    random = np.random.default_rng(7)
    bursts = [(20.0 * burst, int(random.integers(200, 4000)), 150) for burst in range(10) for _ in range(30)]
    unsorted = [(float(at), int(random.integers(100, 3000)), 80) for at in random.uniform(0, 90, 200)]
    huge = [(0.5 * at, MODEL_TOKENS - 1000 if at == 50 else 500, 60) for at in range(100)]
    return {
        "one": [(0.0, 800, 100)],
        "two_far_apart": [(0.0, 800, 100), (2 * HOUR_S, 800, 100)],
        "at_once": [(5.0, 300 + 10 * at, 40) for at in range(120)],
        "unsorted": unsorted,
        "one_huge": huge,
        "too_long": [(1.0 * at, 10 * MODEL_TOKENS, 100) for at in range(40)],
        "long_answers": [(0.2 * at, 3, 4000) for at in range(80)],
        "bursts": bursts,
    }


def write_trace(path: Path, rows: Iterable[Row]) -> Path:
    """As JSON lines with times in milliseconds; every prompt is one of five documents and an own part behind it."""
    lines = []
    for number, (at_s, prompt_tokens, output_tokens) in enumerate(rows):
        blocks = -(-prompt_tokens // 512)
        ids = [1000 * (number % 5) + block for block in range(min(3, blocks - 1))]
        ids += [10**6 + 10**4 * number + block for block in range(blocks - len(ids))]
        row = {"timestamp": round(at_s * 1000), "input_length": prompt_tokens, "output_length": output_tokens}
        lines.append(json.dumps(row | {"hash_ids": ids}))
    path.write_text("\n".join(lines) + "\n")
    return path


def written(folder: Path) -> dict[str, Path]:
    """All odd traces as files in ``folder``."""
    return {name: write_trace(folder / f"{name}.jsonl", rows) for name, rows in odd_traces().items()}
