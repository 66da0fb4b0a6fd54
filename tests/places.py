"""Where tests find what is not theirs."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KVSIM_DATA", REPOSITORY / "../shared/data"))
"""Third-party traces and measurements; tests that need them skip where it is absent."""
RECORDINGS = DATA.parent / "oracle"
"""Recordings of vLLM's scheduler."""
