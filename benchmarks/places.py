"""Where the checkout and the shared data are, and the small model that many rows take."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("KVSIM_DATA") or ROOT.parent / "shared" / "data")
SMALL_8B = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")


def data(*parts: str) -> Path | None:
    """A file of the shared data, or None."""
    path = DATA.joinpath(*parts)
    return path if path.exists() else None
