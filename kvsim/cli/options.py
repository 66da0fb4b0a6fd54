"""The values that flags take: how each is read, and the flags that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kvsim.errors import nearest

Number = TypeVar("Number", int, float)

TRAIN_MODES = ("warmup", "split")
STUDIES = ("pd_ratio", "transfer", "unified_budget", "context")
SYSTEMS = ("unified", "pd")
"""What ``--pd`` runs, in this order."""
STUDIES_OF = {("unified", "pd"): STUDIES, ("unified",): ("unified_budget",), ("pd",): ("pd_ratio", "transfer")}
"""Studies that can be made where only these systems are run."""
TIER_STUDIES = {"single": ("capacity", "tiers"), "cluster": ("tiers", "eic", "capacity", "context")}
"""Studies of the modes with tiers."""


def whole(text: str) -> int:
    """A whole number from 0 on."""
    return _number(text, int, "a whole number >= 0", lambda value: value >= 0)


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _number(text, int, "a whole number >= 1", lambda value: value >= 1)


def positive(text: str) -> float:
    """A finite number above 0."""
    return _number(text, float, "a finite number > 0", lambda value: 0 < value < math.inf)


def rate(text: str) -> float:
    """A number above 0, ``inf`` included."""
    return _number(text, float, "a number > 0, or inf", lambda value: value > 0)


def share(text: str) -> float:
    """A number strictly between 0 and 1."""
    return _number(text, float, "a number > 0 and < 1", lambda value: 0 < value < 1)


def _number(text: str, kind: Callable[[str], Number], allowed: str, fits: Callable[[Number], bool]) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise typer.BadParameter(f"{text!r}; allowed: {allowed}")
    return value


def train_mode(text: str) -> str:
    """A way of training a learned policy."""
    return _known(text, TRAIN_MODES)


def load_system(text: str) -> str:
    """A system whose maximum rate a load is a share of."""
    return _known(text, SYSTEMS)


def systems(text: str) -> str:
    """Names of systems, separated by commas; in the order in which they are run."""
    named = {_known(name.strip(), SYSTEMS) for name in text.split(",")}
    return ",".join(name for name in SYSTEMS if name in named)


def studies(text: str) -> str:
    """Names of studies, separated by commas."""
    known = list(dict.fromkeys([*STUDIES, *(name for names in TIER_STUDIES.values() for name in names)]))
    return ",".join(_known(name.strip(), known) for name in text.split(","))


def _known(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise typer.BadParameter(f"{name!r}; {nearest(name, known)}")
    return name


TraceFile = Annotated[Path, typer.Argument(metavar="FILE", help="The trace: CSV, JSON lines or JSON; plain or gzip.")]
WorkloadFormat = Annotated[
    str,
    typer.Option(
        "--workload-format",
        metavar="FORMAT",
        help="Trace schema: auto, azure, burstgpt, mooncake, splitwise, bailian, aiperf, sharegpt, generic.",
    ),
]
HashTokens = Annotated[
    int | None,
    typer.Option("--workload-hash-tokens-per-block", metavar="N", parser=count, help="Tokens a hash id stands for."),
]
JsonOut = Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write the result as JSON.")]
