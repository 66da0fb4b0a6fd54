"""The card beside a model: whose it is, and the sha256 by which damage is seen.

LightGBM takes down the process on a text that was cut short, and walks for ever, or beyond its memory, through a tree
with a wrong number in it. So it is given no text but one that is, to the byte, what was trained.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from kvsim.errors import ConfigError

WHAT = "When a block of a KV cache is asked for again, by LightGBM; eviction policy `learned`."
"""What stands below the title of every card."""
SHA256 = "Model: sha256 "
"""Begins the line with the sha256 of the model's text, its lines ending as on Unix."""


def card_path(model: Path) -> Path:
    """Beside the model."""
    return model.with_suffix(".md") if model.suffix != ".md" else model.with_name(f"{model.name}.card.md")


def card_head(model: Path, text: str) -> str:
    """What every card begins with, and enough of one. ``text``: what the model's file holds."""
    return f"# {model.stem}\n\n{WHAT}\n\n{SHA256}{_sha256(text)}\n"


def check_card(model: Path, text: str) -> None:
    """Raise ``ConfigError`` where ``text`` is not, by its card, what the file ``model`` should hold."""
    path = card_path(model)
    what, wanted = f"learned model {model}", "a card as 'learn train' writes it"
    try:
        found = re.search(f"^{SHA256}([0-9a-f]{{64}})$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        raise ConfigError(f"{what}: no card {path} beside it; {wanted} tells a whole model from part of one") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{what}: its card {path} cannot be read: {reason}") from None
    if found is None:
        raise ConfigError(f"{what}: its card {path} has no line '{SHA256}...'; {wanted} has the model's")
    if found[1] != (sha256 := _sha256(text)):
        raise ConfigError(f"{what}: cut short or damaged: its sha256 is {sha256}, by its card {path} it was {found[1]}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
