"""The source of the site, assembled below ``build/docs``: pages of the repository, and pages made of the program.

Nothing that is generated is committed, so nothing can be out of date. ``make docs`` runs this and then Zensical.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from links import ELSEWHERE, REPOSITORY, place, rewritten

SOURCE = REPOSITORY / "build" / "docs"
FOLDERS = ("profiles", "trace", "policies", "learned")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"{name}/README.md" for name in FOLDERS))


def assemble(to: Path) -> None:
    """Write every page and picture of the site below ``to``; raises ``DeadLink`` for a link to nothing."""
    import reference

    shutil.rmtree(to, ignore_errors=True)
    docs = sorted(path for path in (REPOSITORY / "docs").rglob("*") if path.is_file())
    for path in [*(REPOSITORY / name for name in PAGES), *docs]:
        source = path.relative_to(REPOSITORY).as_posix()
        at = place(source)
        if at is None or path.suffix not in (".md", ".png", ".ipynb"):
            continue
        (to / at).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (to / at).write_text(rewritten(path.read_text("utf-8"), source), "utf-8")
        else:
            shutil.copyfile(path, to / at)
    (to / "assets").mkdir()
    shutil.copyfile(REPOSITORY / "docs" / "_site" / "iframe-worker.js", to / "assets" / "iframe-worker.js")
    for name in ("configuration", "commands", "profiles", "models"):
        (to / "reference" / f"{name}.md").write_text(getattr(reference, name)(), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    assemble(SOURCE)
    missing = [at for at in ELSEWHERE.values() if not (SOURCE / at).is_file()]
    sys.exit(f"no page {', '.join(missing)}" if missing else 0)
