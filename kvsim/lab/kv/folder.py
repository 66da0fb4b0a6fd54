"""The folder of a design's run, the same whatever the backend: written whole, read back with everything checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from kvsim._version import __version__
from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.experiments.files import write_text
from kvsim.lab.kv.trial import PhaseRow, RequestRow, Trials

RUN, PHASES, REQUESTS = "lab-run.json", "phases.jsonl", "requests.jsonl"
FORM = "kvsim lab run"
_Row = TypeVar("_Row", PhaseRow, RequestRow)


class DamagedRunError(KvsimError):
    """A folder that is no run of a design, or is no longer what was written."""


def write_run(folder: Path, found: Trials) -> list[Path]:
    """Write the rows into the existing ``folder``, and last the file that vouches for them."""
    texts = {
        PHASES: _lines(sorted(found.phases, key=_phase_place)),
        REQUESTS: _lines(sorted(found.requests, key=_request_place)),
    }
    about = {
        "form": FORM,
        "version": __version__,
        "design": found.name,
        "backend": found.backend,
        "asked": dict(found.design),
        "server": dict(found.server),
        "notes": list(found.notes),
        "repeats": sorted({row.repeat for row in found.phases}),
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    }
    texts[RUN] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def read_run(folder: Path) -> Trials:
    """Read a folder back. Raises ``DamagedRunError``, which names the file."""
    about = _about(folder / RUN)
    wanted = about["sha256"]
    texts = {name: _text(folder / name) for name in (PHASES, REQUESTS)}
    for name, text in texts.items():
        if hashlib.sha256(text.encode()).hexdigest() != wanted.get(name):
            raise DamagedRunError(f"{named(folder / name)}: is not what the run wrote; {RUN} vouches for other content")
    return Trials(
        name=about["design"],
        design=about["asked"],
        backend=about["backend"],
        server=about["server"],
        notes=tuple(about["notes"]),
        phases=_rows(folder / PHASES, texts[PHASES], PhaseRow),
        requests=_rows(folder / REQUESTS, texts[REQUESTS], RequestRow),
    )


def _about(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        raise DamagedRunError(f"{named(path)}: is no JSON") from None
    if not isinstance(found, dict) or found.get("form") != FORM:
        raise DamagedRunError(f"{named(path)}: is no run of 'kvsim lab run'")
    if found.get("version") != __version__:
        raise DamagedRunError(f"{named(path)}: written by kvsim {found.get('version')}, this is {__version__}")
    lacking = {"design", "backend", "asked", "server", "notes", "sha256"} - set(found)
    if lacking:
        raise DamagedRunError(f"{named(path)}: has no '{min(lacking)}'")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DamagedRunError(f"{named(path)}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise DamagedRunError(f"{named(path)}: is no UTF-8 text") from None


def _lines(rows: list[Any]) -> str:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def _rows(path: Path, text: str, of: type[_Row]) -> tuple[_Row, ...]:
    known = {each.name for each in fields(of)}
    found: list[_Row] = []
    for place, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            if not isinstance(row, Mapping) or set(row) != known:
                raise ValueError
            found.append(of(**row))
        except ValueError:
            raise DamagedRunError(f"{named(path)}:{place}: is no row of a run") from None
    return tuple(found)


def _phase_place(row: PhaseRow) -> tuple[int, int, int]:
    return row.point, row.repeat, row.order


def _request_place(row: RequestRow) -> tuple[int, int, str, int]:
    return row.point, row.repeat, row.phase, row.request
