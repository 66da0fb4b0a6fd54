"""``kvsim lab audit DESIGN``: what a design's prompts share, and what a cache has to find, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.saying import DONE
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from rich.table import Table

    from kvsim.lab.kv.audit import Audit
    from kvsim.lab.kv.reading import NamedDesign

DesignName = Annotated[
    str, typer.Argument(metavar="DESIGN", help="A name that `kvsim lab designs` lists, or a .yaml file.")
]
Requests = Annotated[
    int | None, typer.Option(metavar="N", parser=options.count, help="Of each phase, in place of the design's.")
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", parser=options.whole, help="Of every draw, in place of the design's.")
]


@dataclass(frozen=True, kw_only=True)
class AuditFlags:
    """The flags of ``lab audit``."""

    design: DesignName
    repeat: Annotated[int, typer.Option(metavar="K", parser=options.whole, help="Which repeat, from 0 on.")] = 0
    requests: Requests = None
    seed: Seed = None
    json_: options.JsonOut = None


@options.taking(AuditFlags)
def lab_audit(flags: AuditFlags) -> int:
    """Say what a design's prompts share and which hits follow; no server is asked.

    kvsim lab audit paired_prefix_cache
    """
    from rich.console import Console

    from kvsim.cli.validate_text import check_json, write_json
    from kvsim.lab.kv.audit import audit
    from kvsim.lab.kv.reading import read_design
    from kvsim.report.atomic import reaching_stdout

    check_json(flags.json_, {})
    asked = changed_by(read_design(flags.design), flags.requests, flags.seed)
    found = audit(asked, flags.repeat)
    with reaching_stdout():
        console = Console(highlight=False)
        console.print(_table(found))
        for line in _lines(found):
            console.print(line, soft_wrap=False)
    write_json(flags.json_, found.dump())
    return DONE


def changed_by(asked: NamedDesign, requests: int | None, seed: int | None) -> NamedDesign:
    """The design with what flags say in place of it. Raises ``FlagError`` where they would be without effect."""
    if requests is not None and "requests" in asked.design.vary:
        raise FlagError(f"--requests: {asked.where} varies requests itself; change its vary.requests")
    return asked.changed(requests=requests, seed=seed)


def _table(found: Audit) -> Table:
    from kvsim.study.words import table_of

    varied = any(row.at for row in found.phases)
    heads = ("phase", "prompts", "equal", "tokens", "blocks", "prefix", "in blocks", "hits")
    table = table_of(f"Audit of {found.design}, in tokens", (*(("point",) if varied else ()), *heads))
    for row in found.phases:
        hits = "unknown" if row.expected_hit_tokens is None else f"{row.expected_hit_tokens:,}"
        figures = (row.prompts, row.duplicates, row.prompt_tokens, row.whole_blocks, row.prefix_tokens)
        point = (", ".join(f"{value:g}" for value in row.at.values()),) if varied else ()
        table.add_row(*point, row.phase, *map("{:,}".format, figures), f"{row.aligned_tokens:,}", hits)
    table.columns[varied].justify = "left"
    return table


def _prefixes(prefixes: Mapping[str, int]) -> str:
    """How many there are, and in how many prompts each is."""
    if not prefixes:
        return "no prefix"
    counts = sorted(set(prefixes.values()))
    each = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"one prefix in all {each}" if len(prefixes) == 1 else f"{len(prefixes):,} prefixes, each in {each}"


def _lines(found: Audit) -> list[str]:
    """What a phase's prompts are, phases alike together, and what the hits rest on."""
    phases: dict[str, tuple[list[str], list[str]]] = {}
    for row in found.phases:
        names, digests = phases.setdefault(f"{row.family}, {_prefixes(row.prefixes)}", ([], []))
        names += [row.phase] if row.phase not in names else []
        digests += [each for each in row.prefixes if each not in digests]
    lines = []
    for what, (names, digests) in phases.items():
        of = f", sha256 {digests[0][:16]}" if len(digests) == 1 else ""
        lines.append(f"{', '.join(names)}: {what}{of}")
    lines.append(f"{found.condition}.")
    lines += sorted({f"unknown: {row.why_unknown}" for row in found.phases if row.why_unknown})
    return lines + [f"point {point}: does not start: {why}" for point, why in found.failures.items()]
