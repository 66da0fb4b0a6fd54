"""Model files as text: looked through before LightGBM, which takes down the process on one that is damaged."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

from kvsim.errors import ConfigError

KIND = {"objective": "binary", "num_class": "1", "num_tree_per_iteration": "1"}
"""What a model of kvsim's says of itself, by the first word of each."""
PLAIN = {"num_cat": "0", "is_linear": "0"}
"""What every tree says that says it: no categories, constant leaves."""
OF_SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
MAYBE_OF_SPLITS = ("split_gain", "internal_value", "internal_weight", "internal_count")
OF_LEAVES = ("leaf_value",)
MAYBE_OF_LEAVES = ("leaf_weight", "leaf_count")
"""Numbers that a tree has of each split or leaf; LightGBM does without some."""
END = "end of trees\n"
"""What stands behind the last tree."""
CATEGORY = 1
"""The bit of a decision's type that says it is one of categories."""


def check_text(text: str, path: str | Path) -> None:
    """Raise ``ConfigError`` for what is no model in text format, one of another kind, and one that is damaged."""
    if not text.startswith("tree\n"):
        raise ConfigError(f"learned model {path}: not a LightGBM model in text format")
    damaged = ConfigError(f"learned model {path}: the file is cut short or damaged")
    head, found, _ = text.partition("\nTree=0\n")
    if not found or "\nend of parameters\n" not in text:
        raise damaged
    fields = _fields(head)
    for name, wanted in KIND.items():
        value = fields.get(name, "")
        if value.split()[:1] != [wanted]:
            raise ConfigError(f"learned model {path}: {name} is {value!r}; allowed: {wanted!r}")
    try:
        columns = int(fields["max_feature_idx"]) + 1
        is_whole = all(_is_tree(_fields(tree), columns) for tree in _trees(text, len(head) + 1, fields["tree_sizes"]))
    except (KeyError, ValueError):
        is_whole = False
    if not is_whole:
        raise damaged


def only_trees(text: str) -> str:
    """The trees of a text that was checked. What follows, how it was trained, has no part in what it predicts; LightGBM
    reads it all the same, and crashes on a parameter that it does not know.
    """
    return text.partition(END)[0] + END


@contextmanager
def silent() -> Iterator[None]:
    """LightGBM writes to the process's own outputs, whatever it raises besides; not in here."""
    outputs = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    if len(outputs) < 2:
        yield
        return
    for stream in outputs:
        stream.flush()
    kept, nowhere = [os.dup(number) for number in (1, 2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        with redirect_stdout(StringIO()):
            yield
    finally:
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)
        os.close(nowhere)


def _fields(lines: str) -> Mapping[str, str]:
    return dict(line.partition("=")[::2] for line in lines.splitlines())


def _trees(text: str, start: int, sizes: str) -> Iterator[str]:
    """Trees that stand from ``start`` on, each of as many bytes as the head says. Raises ``ValueError``."""
    data = text[start:].encode()
    place = 0
    for number, size in enumerate(map(int, sizes.split())):
        tree = data[place : place + max(0, size)].decode()
        if not tree.startswith(f"Tree={number}\n"):
            raise ValueError(number)
        yield tree
        place += size
    if not data.startswith(END.encode(), place):
        raise ValueError(place)


def _is_tree(fields: Mapping[str, str], columns: int) -> bool:
    """Whether LightGBM can walk it. Raises ``KeyError`` or ``ValueError`` for some that it cannot."""
    leaves = int(fields["num_leaves"])
    if leaves < 1 or "num_cat" not in fields or any(fields.get(name, value) != value for name, value in PLAIN.items()):
        return False
    numbers = {name: [float(each) for each in fields[name].split()] for name in (*OF_SPLITS, *OF_LEAVES)}
    optional = (*MAYBE_OF_SPLITS, *MAYBE_OF_LEAVES) if leaves > 1 else ()
    numbers |= {name: [float(each) for each in fields[name].split()] for name in optional if name in fields}
    for name, values in numbers.items():
        if len(values) != leaves - (name in OF_SPLITS or name in MAYBE_OF_SPLITS):
            return False
    kinds = [int(each) for each in fields["decision_type"].split()]
    return (
        all(map(math.isfinite, numbers["leaf_value"]))
        and not any(map(math.isnan, numbers["threshold"]))
        and not any(kind & CATEGORY for kind in kinds)
        and all(0 <= int(each) < columns for each in fields["split_feature"].split())
        and _is_connected(fields, leaves)
    )


def _is_connected(fields: Mapping[str, str], leaves: int) -> bool:
    """Whether every split but the first, and every leaf (``~number``), is the child of just one split before it."""
    children: list[int] = []
    for side in ("left_child", "right_child"):
        for parent, child in enumerate(map(int, fields[side].split())):
            if 0 <= child <= parent:
                return False
            children.append(child)
    wanted = [*range(-leaves, 0), *range(1, leaves - 1)] if leaves > 1 else []
    return sorted(children) == wanted
