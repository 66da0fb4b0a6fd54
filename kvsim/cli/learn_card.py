"""A model's card: what it was trained on, how well it does where, and where it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.cli.outputs import refuse_taken
from kvsim.cli.usage import FlagError
from kvsim.learned.card import WHAT, card_head, card_path
from kvsim.report.atomic import ensure_writable

if TYPE_CHECKING:
    from kvsim.cli.learn_scores import Score
    from kvsim.learned import Training
    from kvsim.workload.accesses import Accesses

STATES = {
    "warm": "Caches have served the prompts before, each under its own policy; only hits of the scored part count",
    "cold": "The scored part alone, from empty caches and without a memory of what was before",
    "run": "The whole run from an empty cache, the warm-up under LRU included",
}
LIMITS = """\
- Times of age are seconds of the traffic it was trained on. The policy corrects the chances while it runs
  (`kvsim/learned/recalibration.py`), which makes up for part of it where users pause otherwise or the request rate is
  another; a model of their own may serve them better.
- It predicts nothing beyond {last_age_s:g} s without a use; such blocks go first, the longest idle before all others.
- It was trained on prompts whose last block is often partly filled and then never asked for again. Where only full
  blocks are cached, a prompt's last one is judged too low.
- A hit counts whether or not the blocks before it are still there.
"""


def check_free(model: Path, taken: Mapping[str, Path]) -> None:
    """Raise a ``KvsimError`` where the model's card cannot be written, or something else stands in its place."""
    path = card_path(model)
    refuse_taken("the card of --output", path, taken)
    ensure_writable(path)
    if not path.is_file():
        return
    with path.open("rb") as stream:
        head = stream.read(4096).decode(errors="replace").splitlines()
    if not head[:1] or not head[0].startswith("# ") or WHAT not in head:
        raise FlagError(f"the card of --output is {str(path)!r}, which is there and no card; another name is wanted")


def card(
    model: Path,
    trace: Path,
    accesses: Accesses,
    training: Training,
    scores: Mapping[str, Sequence[Score]],
    elsewhere: Sequence[tuple[Path, Sequence[Score]]],
    recipe: str,
) -> str:
    """The card in Markdown. ``scores`` by the state that caches were in; ``elsewhere``: on traces not trained on."""
    also = "".join(f" --also {path.name}" for path, _ in elsewhere)
    sections = [
        card_head(model, training.model.text()),
        f"    python main.py learn train {trace.name} -o {model.name} {recipe}{also}\n",
        f"## Data\n\n{_data(trace, accesses, training)}",
        f"## Training\n\n{_training(training)}",
        f"## Scores\n\n{_scores(scores)}",
    ]
    for path, rows in elsewhere:
        note = f"`{path.name}` (sha256 {_sha256(path)}), not trained on, from empty caches:"
        sections.append(f"{note}\n\n{_table(rows)}")
    sections.append(f"## Limits\n\n{LIMITS.format(last_age_s=_last_age_s())}")
    sections.append(f"## Features\n\n{_features(training)}")
    return "\n".join(sections)


def _data(trace: Path, accesses: Accesses, training: Training) -> str:
    parts, prompts = training.parts, len(accesses.time_s)
    return (
        f"`{trace.name}`, sha256 {_sha256(trace)}: {prompts:,} prompts over {accesses.time_s[-1]:,.0f} s, "
        f"{len(accesses.keys):,} blocks asked for, {accesses.num_different:,} different.\n\n"
        f"- prompts 0 to {parts.tune - 1:,} trained,\n"
        + (
            f"- prompts {parts.tune:,} to {parts.score - 1:,} said how many trees,\n"
            if parts.score > parts.tune
            else ""
        )
        + f"- prompts {parts.score:,} to {prompts - 1:,} had no part in the training.\n"
    )


def _training(training: Training) -> str:
    from kvsim.learned.examples import WEIGHT_POWER
    from kvsim.learned.train import PARAMETERS, least_leaf

    leaf = least_leaf(training.examples)
    text = (
        f"{training.examples:,} examples, weight blocks ^ {WEIGHT_POWER:g}; {training.trees} trees with "
        f"{leaf:,} examples or more in a leaf"
    )
    if training.tuning_loss is not None and training.baseline_loss is not None:
        text += (
            ", grown anew on both parts. A model grown on the first part alone had on the tuning part a loss of "
            f"{training.tuning_loss:.4f}, the mean chance {training.baseline_loss:.4f} (weighted binary cross-entropy)"
        )
    return f"{text}.\n\n    {json.dumps(PARAMETERS)}\n"


def _scores(scores: Mapping[str, Sequence[Score]]) -> str:
    text = (
        "Hit ratios, one access per block of each prompt. Gap closed: (learned - LRU) / (Belady - LRU); in brackets, "
        "that of the best classic policy at that size. All are of the policy `learned`, which corrects the model's "
        "chances while it runs, by what has become of blocks so far.\n"
    )
    for state, rows in scores.items():
        text += f"\n{STATES[state]}; {rows[0].accesses:,} accesses:\n\n{_table(rows)}"
    return text


def _table(rows: Sequence[Score]) -> str:
    text = "| blocks | LRU | best classic | learned | Belady | gap closed |\n|--:|--:|--:|--:|--:|--:|\n"
    for row in rows:
        ratio = {name: getattr(row, name) / row.accesses for name in ("lru", "classic", "learned", "belady")}
        text += (
            f"| {row.capacity_blocks:,} | {ratio['lru']:.4f} | {ratio['classic']:.4f} {row.classic_name} | "
            f"{ratio['learned']:.4f} | {ratio['belady']:.4f} | "
            f"{_percent(row.gap_closed)} ({_percent(row.gap_closed_by_classic)}) |\n"
        )
    return text


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _features(training: Training) -> str:
    rows = "".join(f"| {name} | {gain:,.0f} | {splits:,} |\n" for name, gain, splits in training.model.importances())
    return f"What they mean: `kvsim/learned/features.py`.\n\n| feature | gain | splits |\n|---|--:|--:|\n{rows}"


def _last_age_s() -> float:
    from kvsim.learned import AGES_S

    return AGES_S[-1]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
