"""Where files of the repository stand on the site, and links between them, which are written for the repository."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[2]

ELSEWHERE: Mapping[str, str] = {
    "README.md": "overview.md",
    "docs/index.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config.yaml": "reference/configuration.md",
    "models.json": "reference/models.md",
    "profiles/README.md": "reference/profile-files.md",
    "profiles": "reference/profiles.md",
    "trace/README.md": "reference/traces.md",
    "policies/README.md": "reference/policies.md",
    "learned/README.md": "reference/learned.md",
    "docs": "index.md",
    "docs/decisions": "index.md",
}
"""Files that stand elsewhere on the site, and what is generated in place of files that are no pages."""

LINK = re.compile(r"(?<!\\)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|    )")


class DeadLink(Exception):
    """A link to a file that is not there."""


def place(source: str) -> str | None:
    """Where a file of the repository stands on the site; ``None``: it is not on it."""
    if source in ELSEWHERE:
        return ELSEWHERE[source]
    if source.startswith("docs/") and not source.startswith("docs/_site/"):
        return source.removeprefix("docs/")
    return None


def rewritten(text: str, source: str) -> str:
    """``text`` of the file ``source`` with links as the site has them; those to files that are not on it are words."""
    page = place(source)
    assert page is not None, source

    def one(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        if target.startswith("#") or ":" in target.split("/")[0]:
            return found[0]
        path, hash_, anchor = target.partition("#")
        there = os.path.normpath(PurePosixPath(source).parent / path).replace(os.sep, "/")
        at = place(there)
        if not (REPOSITORY / there).exists():
            raise DeadLink(f"{source}: {target}")
        if at is None:
            return words if words.startswith("`") else f"{words} (`{there}`)"
        return f"[{words}]({os.path.relpath(at, PurePosixPath(page).parent)}{hash_}{anchor})"

    lines, fenced = [], False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        lines.append(line if fenced or FENCE.match(line) else LINK.sub(one, line))
    return "\n".join(lines)
