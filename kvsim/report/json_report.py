"""JSON files, as every command writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kvsim.report.atomic import replacing


def json_text(tree: Mapping[str, object]) -> str:
    """``tree`` as kvsim writes it into files, its last line ended; ``ValueError`` for what JSON cannot say."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, tree: Mapping[str, object]) -> None:
    """Write ``tree`` to ``path``, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
    text = json_text(tree)
    with replacing(path) as file:
        file.write(text.encode())
