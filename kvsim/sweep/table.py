"""The table of a sweep while it runs: a line a run, appended as it ends, which a kill at any point leaves readable.

Its first line says of which sweep it is. A line that a kill cut short has no end, and is no row: its run is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.report.atomic import reason, replacing
from kvsim.sweep.identity import identity
from kvsim.sweep.plan import Plan
from kvsim.sweep.sweep import Sweep, sweep_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ROWS = "runs.jsonl"
CSV, PARQUET = "table.csv", "table.parquet"
TIMES = "cpu.jsonl"
"""What each run took of CPU, and where: no part of a row, as it differs from time to time."""
FORM = 1
_REPAIR = "kvsim sweep FILE --out DIR --drop-damaged leaves such rows out and runs them again"
_BLOCK_BYTES = 1 << 16
OWN = ("run", "id", "point", "replication", "seed")
"""Columns before those of values; ``error`` and figures come after them."""


@dataclass(frozen=True)
class Header:
    """The first line."""

    digest: str
    identity: str
    """The kvsim that its rows are of."""
    num_runs: int
    says: Mapping[str, Any]
    """:attr:`kvsim.sweep.sweep.Sweep.says`."""

    @property
    def sweep(self) -> Sweep:
        return sweep_of(self.says, Path())

    def line(self) -> str:
        """As it stands in the file."""
        return json.dumps(
            {
                "kvsim_sweep": FORM,
                "sweep": self.digest,
                "made_by": self.identity,
                "runs": self.num_runs,
                "says": self.says,
            },
            separators=(",", ":"),
        )


def header_of(plan: Plan) -> Header:
    """The header of a table that begins now."""
    return Header(plan.sweep.digest, identity(), len(plan), plan.sweep.says)


def read_header(path: Path) -> Header | None:
    """The header of a table; ``None``: there is none yet. Raises a ``KvsimError`` for a file that is no table."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KvsimError(f"{named(path)}: cannot be read: {reason(error)}") from None
    if not line:
        return None
    try:
        found = json.loads(line)
        if found["kvsim_sweep"] != FORM:
            raise ValueError
        return Header(found["sweep"], found["made_by"], found["runs"], found["says"])
    except (ValueError, KeyError, TypeError):
        raise KvsimError(f"{named(path)}: is no table of a sweep; another --out is wanted") from None


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row that is whole, as its line and what it says. Raises a ``KvsimError`` for one that is damaged."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1 or not line.endswith(b"\n"):
                continue
            try:
                row = json.loads(line)
                row["run"], row["id"], row["error"]
            except (ValueError, KeyError, TypeError):
                what = f"is no row of a sweep; it was damaged; {_REPAIR}"
                raise KvsimError(f"{named(path)}, line {number}: {what}") from None
            yield line.decode().rstrip("\n"), row


def drop_damaged(path: Path, plan: Plan) -> int:
    """Leave out the lines of a table that are no rows of ``plan``, if there are any; returns how many."""
    with open(path, "rb") as file:
        head, *lines = file.readlines()
    kept = [line for line in lines if _is_row(line, plan)]
    if len(kept) < len(lines):
        with replacing(path) as file:
            file.writelines([head, *kept])
    return len(lines) - len(kept)


def _is_row(line: bytes, plan: Plan) -> bool:
    """Whether a line says it is a run of ``plan``; one that a kill cut short is left to be cut off."""
    try:
        row = json.loads(line)
        number, own, _ = row["run"], row["id"], row["error"]
        return isinstance(number, int) and 0 <= number < len(plan) and plan.run(number).id == own
    except (ValueError, KeyError, TypeError):
        return not line.endswith(b"\n")


def rows_by_run(path: Path) -> dict[int, int]:
    """Where in the file each run's row begins: the last one, where a failed run was repeated."""
    found: dict[int, int] = {}
    with open(path, "rb") as file:
        at = len(file.readline())
        for line in file:
            if line.endswith(b"\n"):
                found[json.loads(line)["run"]] = at
            at += len(line)
    return found


def ensure_unused(folder: Path) -> None:
    """Raise a ``KvsimError`` where a file stands that a sweep would write and none has written."""
    for name in (CSV, PARQUET, TIMES):
        if (folder / name).exists():
            raise KvsimError(f"{named(folder / name)}: is there, and no sweep's; another --out is wanted")


def sweep_in(folder: Path) -> Sweep:
    """The sweep whose table stands in a folder."""
    found = read_header(folder / ROWS)
    assert found is not None
    return found.sweep


def points_in(folder: Path) -> int:
    """How many points the sweep has whose table stands in a folder, those without a row too."""
    found = read_header(folder / ROWS)
    assert found is not None
    return found.num_runs // found.sweep.replications


class Table:
    """The table in a folder, open for appending; one process at a time has it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path = folder / ROWS
        self._folder, self._plan = folder, plan
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self.done = bytearray(len(plan))
        """1: the run has a row, 2: one with an error."""
        self.dropped = 0
        """Lines that were damaged and left out."""

    def check(self) -> None:
        """Raise a ``KvsimError`` where another sweep's table stands there, or rows of another kvsim."""
        found, own = read_header(self.path), header_of(self._plan)
        if found is None:
            ensure_unused(self._folder)
            return
        if found.digest != own.digest:
            raise KvsimError(f"{named(self.path)}: is of another sweep; another --out is wanted")
        if found.identity != own.identity:
            what = f"has rows of {found.identity}, and this is {own.identity}"
            raise KvsimError(f"{named(self.path)}: {what}; another --out is wanted")

    @contextmanager
    def opened(self, *, drops_damaged: bool = False) -> Iterator[Table]:
        """What is there is read, and what was cut short is cut off. Raises a ``KvsimError`` where that cannot be.

        ``drops_damaged``: lines that are no rows are left out, and their runs missing; :attr:`dropped` counts them.
        """
        with _alone(self._folder):
            self.check()
            if read_header(self.path) is None:
                with replacing(self.path) as file:
                    file.write(f"{header_of(self._plan).line()}\n".encode())
            self.dropped = drop_damaged(self.path, self._plan) if drops_damaged else 0
            self._read()
            with open(self.path, "ab") as rows, open(self._folder / TIMES, "ab") as times:
                self._files = rows, times
                yield self

    def append(self, lines: Sequence[str], times: Sequence[str]) -> None:
        """Rows that will be there whatever happens next. Raises a ``KvsimError`` where the disk takes no more."""
        assert self._files is not None
        file, beside = self._files
        try:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
            beside.write("".join(f"{line}\n" for line in times).encode())
            beside.flush()
        except OSError as error:
            raise KvsimError(f"cannot write {str(self.path)!r}: {reason(error)}") from error

    def _read(self) -> None:
        for _, row in read_lines(self.path):
            number = row["run"]
            if not 0 <= number < len(self._plan) or self._plan.run(number).id != row["id"]:
                what = f"run {number} is none of this sweep; the table was damaged; {_REPAIR}"
                raise KvsimError(f"{named(self.path)}: {what}")
            self.done[number] = 1 if row["error"] is None else 2
        for path in (self.path, self._folder / TIMES):
            _cut(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process appends to the table in this folder meanwhile; where that can be known at all."""
    if fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise KvsimError(f"{named(folder)}: another sweep is writing there; another --out is wanted") from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(held)


def _cut(path: Path) -> None:
    """Cut off what stands behind the last whole line."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        size = at = file.seek(0, os.SEEK_END)
        while at > 0:
            begin = max(0, at - _BLOCK_BYTES)
            file.seek(begin)
            newline = file.read(at - begin).rfind(b"\n")
            if newline >= 0:
                at = begin + newline + 1
                break
            at = begin
        if at < size:
            file.truncate(at)
