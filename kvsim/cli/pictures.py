"""Showing pictures on the screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def show(pictures: Sequence[Path]) -> str | None:
    """Open ``pictures`` with the platform's opener; returns why that cannot be, ``None`` when it was done."""
    macos = sys.platform == "darwin"
    if not macos and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    opener = shutil.which("open" if macos else "xdg-open")
    if opener is None:
        return f"there is no {'open' if macos else 'xdg-open'} to open pictures with"
    for picture in pictures:
        silent = subprocess.DEVNULL
        subprocess.Popen([opener, picture], stdout=silent, stderr=silent, start_new_session=True)
    return None
