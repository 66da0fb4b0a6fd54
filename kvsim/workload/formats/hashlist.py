"""A list of block hashes as traces write it: a JSON list, or its text in a CSV field."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kvsim.workload.records import Record

ALLOWED = "a list of whole numbers or strings"


def hash_list(record: Record, field: str) -> Sequence[int | str]:
    """The ids of ``field``, in order. A CSV field holds ``[1, 2, 3]``, or ids with spaces, commas or ``;`` between."""
    value = record.value(field)
    ids = _from_text(record, field, value) if isinstance(value, str) else value
    if not isinstance(ids, list):
        raise record.error(field, value, ALLOWED)
    # Almost every row is whole numbers alone, and the set finds that out without a step per id.
    if set(map(type, ids)) - {int, str}:
        raise record.error(field, value, ALLOWED)
    return ids


def _from_text(record: Record, field: str, text: str) -> object:
    if not text.lstrip().startswith("["):
        return text.replace(",", " ").replace(";", " ").split()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise record.error(field, text, ALLOWED) from None
