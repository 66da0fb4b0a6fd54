"""What two rules of the step times say beside measured kernels: rewrites the second tables of ``docs/leaderboard.md``.

    python benchmarks/kernels.py [--print]

The kernels are those of the RTX PRO 6000 profiles in ``../shared/data/measured`` beside the checkout, or in
``$KVSIM_DATA/measured``; none of the rules was fitted to the mixed steps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from places import DATA, ROOT

from kvsim.plan.build_step_time import FLASH_ATTENTION_2_ROWS
from kvsim.spec import find_gpu
from kvsim.steptime.assemble import MIXED_FACTOR
from kvsim.steptime.operators import Floats
from kvsim.validate.calibrate.operators import read_folder

PAGE = ROOT / "docs" / "leaderboard.md"
BEGIN, END = "<!-- kernels: begin -->\n", "<!-- kernels: end -->\n"
PROFILES = {"RTXPRO6000_Llama-3.1-8B": 8, "RTXPRO6000_Qwen3-32B": 4}
"""KV heads a GPU of each."""
BYTES_PER_HEAD = 2 * 128 * 2
MB = 1_000_000
LEAST_MB = 100
"""Below, the caches of the GPU still hold a good part."""
LEAST_SEQUENCES = 8
CONTEXTS = ((0, 200), (200, 600), (600, 1_100), (1_100, 2_100), (2_100, 5_000), (5_000, 20_000))


def main() -> int:
    if not (DATA / "measured").is_dir():
        sys.stderr.write("no measurements: set KVSIM_DATA\n")
        return 1
    profiles = {name: read_folder(DATA / "measured" / name).operators.attention for name in PROFILES}
    text = "\n".join([*_bandwidth(profiles), *_mixed(profiles)]) + "\n"
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text)
        return 0
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.split(BEGIN)[0] + BEGIN + text + END + page.split(END)[1], encoding="utf-8")
    return 0


def _bandwidth(profiles: dict[str, Floats]) -> Iterator[str]:
    yield "Share of the memory's bandwidth at which decodes read KV that four or eight heads share, in batches of"
    yield f"{LEAST_MB} MB and more, less the time of one sequence of one block:\n"
    yield "| profile | shapes | 10% | median | 90% |"
    yield "|---|---|---|---|---|"
    shares = {name: _shares(kernels, PROFILES[name]) for name, kernels in profiles.items()}
    for name, found in (*shares.items(), ("both", np.concatenate(list(shares.values())))):
        low, middle, high = np.percentile(found, [10, 50, 90])
        yield f"| {name} | {found.size} | {low:.2f} | {middle:.2f} | {high:.2f} |"


def _shares(kernels: Floats, kv_heads: int) -> Floats:
    """Of ``kernels``: rows of prompt tokens, their context, sequences, their context, seconds."""
    alone = kernels[(kernels[:, 0] == 0) & (kernels[:, 2] > 0)]
    read_bytes = alone[:, 2] * alone[:, 3] * kv_heads * BYTES_PER_HEAD
    taken_s = alone[:, 4] - alone[:, 4].min()
    wide = read_bytes >= LEAST_MB * MB
    return read_bytes[wide] / find_gpu("rtx-pro-6000").hbm_bytes_per_s / taken_s[wide]


def _mixed(profiles: dict[str, Floats]) -> Iterator[str]:
    rows = np.array([row for kernels in profiles.values() for row in _beside_prefill(kernels)])
    yield "\nWhat decodes add to a step that prefills, predicted less measured in percent, batches of"
    yield f"{LEAST_SEQUENCES} sequences and more beside the first chunk of a prompt:\n"
    yield f"| context (tokens) | shapes | tiles, 10% | median | 90% | {MIXED_FACTOR:g} times, median |"
    yield "|---|---|---|---|---|---|"
    for least, most in CONTEXTS:
        of = rows[(rows[:, 0] > least) & (rows[:, 0] <= most)]
        low, middle, high = np.percentile(of[:, 1], [10, 50, 90])
        span = f"{least:,} to {most:,}"
        yield f"| {span} | {len(of)} | {low:+.0f} | {middle:+.0f} | {high:+.0f} | {np.median(of[:, 2]):+.0f} |"


def _beside_prefill(kernels: Floats) -> Iterator[tuple[float, float, float]]:
    """Context, and percent that the rules of tiles and of a factor are off by."""
    prefills = {(row[0], row[1]): row[4] for row in kernels if row[0] and not row[2]}
    decodes = {(row[2], row[3]): row[4] for row in kernels if not row[0]}
    longest = max(tokens for tokens, context in prefills if context == 0)
    pair_s = prefills[longest, 0.0] / (longest**2 / 2)
    for tokens, before, sequences, context, seconds in kernels:
        added_s = seconds - prefills.get((tokens, before), np.inf)
        alone_s = decodes.get((sequences, context))
        if before or not tokens or sequences < LEAST_SEQUENCES or alone_s is None or added_s <= 0:
            continue
        tiles_s = max(alone_s, pair_s * FLASH_ATTENTION_2_ROWS * sequences * context)
        yield context, 100 * (tiles_s / added_s - 1), 100 * (MIXED_FACTOR * alone_s / added_s - 1)


if __name__ == "__main__":
    sys.exit(main())
