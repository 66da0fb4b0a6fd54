"""Files and folders, looked through for artefacts; each is known by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from kvsim.errors import KvsimError
from kvsim.explore.artefact import Artefact, DamagedError, NoArtefactError, OtherVersionError, Tree
from kvsim.explore.compared import (
    difference_artefact,
    explanation_artefact,
    is_difference,
    is_explanation,
    is_recommendation,
    recommendation_artefact,
)
from kvsim.explore.found import is_lab, is_study, lab_artefact, study_artefact
from kvsim.explore.kv_labs import is_beside_result, is_kv_lab, kv_lab_artefact
from kvsim.explore.requests import BEGINS, requests_artefact
from kvsim.explore.runs import is_run, run_artefact
from kvsim.explore.sweeps import OWN, sweep_artefact
from kvsim.explore.validations import (
    is_leaderboard,
    is_loads,
    is_measured_run,
    leaderboard_artefact,
    loads_artefact,
    measured_run_artefact,
)
from kvsim.lab.kv.analysis.report import FIGURE
from kvsim.sweep.table import CSV, FORM, PARQUET, ROWS, read_lines

Reader = Callable[[Path, str, Tree], Artefact]
KINDS: Sequence[tuple[Callable[[Tree], bool], Reader]] = (
    (is_run, run_artefact),
    (is_study, study_artefact),
    (is_lab, lab_artefact),
    (is_kv_lab, kv_lab_artefact),
    (is_recommendation, recommendation_artefact),
    (is_difference, difference_artefact),
    (is_explanation, explanation_artefact),
    (is_loads, loads_artefact),
    (is_measured_run, measured_run_artefact),
    (is_leaderboard, leaderboard_artefact),
)
KNOWN = (
    "reports of runs, studies, labs, sweeps, recommendations, differences, explanations, validations, "
    "tables of requests"
)
_SWEEP_CSV = ",".join(OWN).encode()
_HEAD_BYTES = 256
_NAMED = 3
"""Files that a warning names."""


@dataclass
class Collected:
    """What was found."""

    artefacts: list[Artefact] = field(default_factory=list)
    skipped: list[tuple[Path, KvsimError]] = field(default_factory=list)

    def warnings(self) -> Iterator[str]:
        """A line for each reason why files were left out."""
        why: dict[str, list[str]] = {}
        for path, error in self.skipped:
            why.setdefault(str(error), []).append(str(path))
        for reason, paths in why.items():
            more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
            yield f"left out: {', '.join(paths[:_NAMED])}{more}: {reason}"


def collect(results: Sequence[Path], site: Path) -> Collected:
    """The artefacts in ``results``, files and folders, but for what lies in ``site``; sorted by kind and path.

    Raises a ``KvsimError``: a path that is not there, or nothing that can be shown.
    """
    found = Collected()
    seen: set[str] = set()
    for path, asked in _files(results, site):
        try:
            artefact = read_artefact(path, asked=asked)
        except NoArtefactError as error:
            found.skipped.append((path, error))
            continue
        if artefact is not None and artefact.digest not in seen:
            seen.add(artefact.digest)
            found.artefacts.append(artefact)
    if not found.artefacts:
        first = next(found.warnings(), f"no file in {', '.join(map(str, results))} is an artefact; known: {KNOWN}")
        raise KvsimError(f"explore: nothing to show; {first}")
    found.artefacts.sort(key=lambda each: (each.kind, each.path.as_posix(), each.digest))
    return found


def _files(results: Sequence[Path], site: Path) -> Iterator[tuple[Path, bool]]:
    """Files, and whether each was named itself."""
    without = site.resolve()
    for path in results:
        if not path.exists():
            raise KvsimError(f"explore: {str(path)!r} is not there; files or folders that kvsim wrote are wanted")
        if path.is_file():
            yield path, True
            continue
        for each in sorted(path.rglob("*")):
            if each.is_file() and without not in each.resolve().parents:
                yield each, False


def read_artefact(path: Path, *, asked: bool) -> Artefact | None:
    """What the file is; ``None``: not ``asked`` for and no JSON or table, or another file beside it says the same.

    Raises ``NoArtefactError`` for what is neither.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(b'{"kvsim_sweep":'):
            return _sweep(path)
        if head.startswith((_SWEEP_CSV, b"PAR1")):
            return _sweep_table(path, asked=asked)
        if head.startswith(BEGINS):
            return _guarded(path, lambda: requests_artefact(path, _digest(path)))
        if head.lstrip()[:1] in (b"{", b"["):
            return _of_json(path, asked=asked)
    except OSError as error:
        raise NoArtefactError(f"cannot be read: {error.strerror or error}") from error
    if asked:
        raise NoArtefactError(f"no artefact of kvsim's; known: {KNOWN}")
    return None


def _of_json(path: Path, *, asked: bool) -> Artefact | None:
    try:
        tree = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except (UnicodeDecodeError, ValueError) as error:
        if path.suffix != ".json" and not asked:
            return None
        raise DamagedError("no whole JSON: it was damaged or cut off") from error
    if not asked and is_beside_result(path):
        return None
    if isinstance(tree, dict):
        for matches, read in KINDS:
            if matches(tree):
                found = _guarded(path, lambda read=read: read(path, _digest(path), tree))  # type: ignore[misc]
                picture = path.with_name(FIGURE) if matches is is_kv_lab else path.with_suffix(".png")
                return replace(found, picture=picture) if found.kind in ("study", "lab") and _is_png(picture) else found
    raise NoArtefactError(f"no artefact of kvsim's; known: {KNOWN}")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _guarded(path: Path, read: Callable[[], Artefact]) -> Artefact:
    """What ``read`` returns; a file that lacks what its kind has raises ``DamagedError``."""
    try:
        return read()
    except NoArtefactError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DamagedError(f"looks like an artefact of kvsim's, and lacks what those have ({what})") from error


def _is_png(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x89PNG"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _sweep(path: Path) -> Artefact:
    def read() -> Artefact:
        with path.open("rb") as file:
            header = json.loads(file.readline())
        if header["kvsim_sweep"] != FORM:
            raise OtherVersionError(f"a sweep of form {header['kvsim_sweep']}, this kvsim reads {FORM}")
        rows = sorted((row for _, row in read_lines(path)), key=lambda row: row["run"])
        return sweep_artefact(path, _digest(path), header, rows)

    return _guarded(path, read)


def _sweep_table(path: Path, *, asked: bool) -> Artefact | None:
    """A sweep's table, where the rows it was made of are not beside it, nor the same table as CSV."""
    import polars as pl

    beside = [path.with_name(ROWS)] + ([path.with_name(CSV)] if path.name == PARQUET else [])
    if not asked and any(each.is_file() for each in beside):
        return None

    def read() -> Artefact:
        with path.open("rb") as file:
            is_csv = file.read(4) != b"PAR1"
        frame = pl.read_csv(path, infer_schema_length=None) if is_csv else pl.read_parquet(path)
        if not set(OWN) <= set(frame.columns):
            raise NoArtefactError(f"no artefact of kvsim's; known: {KNOWN}")
        rows: Sequence[Mapping[str, Any]] = frame.sort("run").rows(named=True)
        return sweep_artefact(path, _digest(path), None, rows)

    return _guarded(path, read)
