"""What a server is sent, as the flags of several verbs say it: a word or a trace, at a rate or in a closed loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.capacity.sources import WordSource
    from kvsim.workload.reading import Reading
    from kvsim.workload.traffic import TraceSource

DEFAULT_WORKLOAD = "chat"
"""As ``kvsim.workload.words.USUAL``, which is not imported for ``--help``."""
WHOLE_TRACE = 1_000_000_000
"""Requests that no trace has."""
Workload = Annotated[
    str,
    typer.Option(
        metavar="W",
        help="chat (as in --pd), sharegpt, rag, agent, summarise, code, in=2000,out=300,prefix=800:10, or a trace "
        "file.",
    ),
]
Rate = Annotated[float | None, typer.Option(metavar="R", parser=options.positive, help="Requests a second, in all.")]
Concurrency = Annotated[
    int | None, typer.Option(metavar="C", parser=options.count, help="Users, each with one request in flight.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")]


def reading_of(flags: options.ReadingFlags) -> Reading:
    """How a trace is read."""
    from kvsim.workload.reading import Reading

    return Reading(**{field: getattr(flags, name) for name, (field, _, _) in options.READING.items()})


def ensure_one_pace(rate: float | None, concurrency: int | None) -> None:
    """Raise ``FlagError`` where both are given."""
    if rate is not None and concurrency is not None:
        raise FlagError("--rate and --concurrency exclude each other; give one")


def source_of(
    workload: str, reading: Reading, concurrency: int | None, requests: int | None
) -> TraceSource | WordSource:
    """A trace at its own times or a rate; a word at a rate; either in a closed loop."""
    from kvsim.capacity.sources import WordSource
    from kvsim.workload.traffic import TraceSource
    from kvsim.workload.words import word_of

    is_trace = Path(workload).is_file()
    if is_trace and concurrency is None:
        if requests is not None:
            raise FlagError("--requests is for workloads in a word and --concurrency; a trace takes --workload-limit")
        return TraceSource(workload, reading)
    number = requests or (WHOLE_TRACE if is_trace else None)
    return WordSource(word_of(workload, reading), concurrency, num_requests=number)
