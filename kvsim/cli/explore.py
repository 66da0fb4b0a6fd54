"""``kvsim explore``: a static site over what kvsim wrote."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kvsim.cli import options
from kvsim.cli.saying import DONE, one_line
from kvsim.cli.usage import FlagError


@dataclass(frozen=True, kw_only=True)
class ExploreFlags:
    """The flags of ``explore``."""

    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Files that kvsim wrote, or folders of them.")
    ] = None
    site: Annotated[Path | None, typer.Option("-o", "--out", metavar="SITE", help="Folder of the site.")] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False


@options.taking(ExploreFlags)
def explore(flags: ExploreFlags) -> int:
    """Make a static site of results: filter, sort and compare runs, studies, labs, sweeps and validations.

    kvsim explore results -o site
    """
    from kvsim.explore.collect import collect
    from kvsim.explore.site import check_site, write_site

    if not flags.results:
        raise FlagError("explore: RESULTS are missing: files that kvsim wrote, or folders of them")
    if flags.site is None:
        raise FlagError("explore: -o SITE is missing: the folder of the site")
    check_site(flags.site, flags.results)
    found = collect(flags.results, flags.site)
    if not flags.quiet:
        for warning in found.warnings():
            print(f"kvsim: warning: {one_line(warning)}", file=sys.stderr)
    size = write_site(flags.site, found.artefacts)
    if not flags.quiet:
        entries = sum(len(each.entries) for each in found.artefacts)
        index = flags.site / "index.html"
        print(f"{len(found.artefacts):,} artefacts, {entries:,} entries: {index} ({size / 1e6:.1f} MB)")
    return DONE
