"""``kvsim lab workload``: make a workload file for ``kvsim lab schedule``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kvsim.cli import options
from kvsim.cli.saying import DONE

MOST_REQUESTS = 100_000


@dataclass(frozen=True, kw_only=True)
class WorkloadFlags:
    """The flags of ``lab workload``."""

    kind: Annotated[str, typer.Argument(metavar="KIND", help="mixed: chats and documents; bursty: they come at once.")]
    requests: Annotated[int, typer.Option(metavar="N", parser=options.count, help="How many.")] = 60
    seed: Annotated[int, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")] = 0
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The JSON file to write.")]


@options.taking(WorkloadFlags)
def lab_workload(flags: WorkloadFlags) -> int:
    """Make a workload file: short chats and long documents, some with deadlines, some with a shared prefix.

    kvsim lab workload mixed --requests 60 --seed 1 -o mixed.json
    """
    from kvsim.cli.outputs import check_file
    from kvsim.errors import ConfigError, nearest
    from kvsim.experiments.files import write_text
    from kvsim.lab.kv.queue.generators import GENERATORS
    from kvsim.lab.kv.queue.workload_file import text_of

    if flags.kind not in GENERATORS:
        raise ConfigError(f"lab workload: there is no kind '{flags.kind}'; {nearest(flags.kind, GENERATORS)}")
    if flags.requests > MOST_REQUESTS:
        raise ConfigError(f"--requests is {flags.requests}; allowed: up to {MOST_REQUESTS}")
    check_file("--out", flags.out, {}, "JSON")
    write_text(flags.out, text_of(GENERATORS[flags.kind](flags.requests, flags.seed)))
    print(f"kvsim: wrote {flags.out}", file=sys.stderr)
    return DONE
