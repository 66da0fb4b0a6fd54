"""Result files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any

from kvsim.errors import KvsimError

STDOUT = Path("-")
_DATA: list[IO[bytes]] = []
"""The stdout of files named ``-`` while words go elsewhere."""
_TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def is_stdout(path: Path | None) -> bool:
    return path == STDOUT


@contextmanager
def words_to_stderr() -> Iterator[None]:
    """What is printed goes to stderr, and only the file named ``-`` to stdout."""
    data = sys.stdout
    data.flush()
    _DATA.append(_DATA[-1] if _DATA else data.buffer)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _DATA.pop()
        data.flush()


@contextmanager
def reaching_stdout() -> Iterator[None]:
    """What the block prints is out when it ends. Raises a ``KvsimError`` where stdout takes no more, and gives it up.

    ``BrokenPipeError`` goes on. Files are named by whoever writes them; what fails without a name is stdout.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _TAKES_NO_MORE:
            raise
        give_up(sys.stdout)
        raise KvsimError(f"cannot write to stdout: {reason(error)}") from error


def give_up(stream: IO[Any]) -> None:
    """Let what is left in the buffers of ``stream`` go nowhere: it must not fail again when Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def ensure_writable(path: Path) -> None:
    """Raise a ``KvsimError`` when ``path`` could not be written, so that a long run need not end with that news."""
    try:
        folder = path.parent
        if _is_device(path):
            return
        if path.is_dir():
            raise _refusal(path, "it is a folder, a file name is expected")
        if not folder.is_dir():
            raise _refusal(path, f"there is no folder {str(folder)!r}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _refusal(path, f"no permission to create files in {str(folder)!r}")
        _try(_temporary(path))
    except OSError as error:
        raise _refusal(path, reason(error)) from error


def ensure_takes_files(folder: Path) -> None:
    """Raise a ``KvsimError`` when no file can be created in this folder, which is there."""
    try:
        _try(_temporary(folder / "results"))
    except OSError as error:
        raise KvsimError(f"cannot create files in {str(folder)!r}: {reason(error)}") from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well, and leaves nothing behind otherwise.

    It is written in the same folder under a temporary name. Devices and pipes (``/dev/stdout``) are written directly,
    ``-`` is stdout. A file that cannot be written raises a ``KvsimError``, and ``BrokenPipeError`` a stdout that nobody
    reads any more.
    """
    try:
        if is_stdout(path):
            sys.stdout.flush()
            with _stdout() as file:
                yield file
            return
        ensure_writable(path)
        if _is_device(path):
            with open(path, "wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        temporary = _temporary(target)
        try:
            with open(temporary, "wb") as file:
                yield file
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except BrokenPipeError as error:
        if is_stdout(path) or _leads_to_stdout(path):
            raise
        raise _refusal(path, reason(error)) from error
    except OSError as error:
        raise _refusal(path, reason(error)) from error


def reason(error: OSError) -> str:
    """Why the machine did not do what was asked, in its own words."""
    return error.strerror or str(error)


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    stdout = _DATA[-1] if _DATA else sys.stdout.buffer
    try:
        yield stdout
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        give_up(stdout)
        raise


def _leads_to_stdout(path: Path) -> bool:
    return os.path.samestat(os.stat(path), os.fstat(1))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _try(path: Path) -> None:
    """Permissions do not tell everything: a file system may be read-only, or none that takes files."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    path.unlink()


def _is_device(path: Path) -> bool:
    """Exists and is neither file nor folder: replacing it by a file would destroy it."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _refusal(path: Path, why: str) -> KvsimError:
    return KvsimError(f"cannot write {'to stdout' if is_stdout(path) else repr(str(path))}: {why}")
