"""Writing a workload as a trace file of each schema that kvsim reads."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.formats import mooncake
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

AZURE_START = datetime(2024, 1, 1, tzinfo=UTC)
# Token ids that every published tokenizer has.
VOCABULARY_TOKENS = 32_000


def write_trace(workload: Workload, path: str | Path, fmt: str) -> None:
    """Writes ``path`` in schema ``fmt``; the file appears whole or not at all.

    Times are rounded to what the schema holds. Raises ``WorkloadError`` for an unknown schema or a folder that is not
    there.
    """
    if fmt not in WRITERS:
        raise WorkloadError(f"workload format '{fmt}' cannot be written; {nearest(fmt, WRITERS)}")
    path = Path(path)
    if not path.parent.is_dir():
        raise WorkloadError(f"{path}: the folder {path.parent} does not exist")
    _write_whole(path, WRITERS[fmt](workload))


def _write_whole(path: Path, lines: Iterable[str]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(lines)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _azure(requests: Iterable[Request]) -> Iterator[str]:
    """With seven decimals, carriage returns and no newline at the end, as published."""
    yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    for request in requests:
        ticks = round(request.arrival_s * 10_000_000)
        second = AZURE_START + timedelta(seconds=ticks // 10_000_000)
        yield f"\r\n{second:%Y-%m-%d %H:%M:%S}.{ticks % 10_000_000:07d},{request.prompt_tokens},{request.output_tokens}"


def _mooncake(requests: Iterable[Request]) -> Iterator[str]:
    known: dict[tuple[int, int], int] = {}
    for request in requests:
        row = {
            "timestamp": round(request.arrival_s * 1000),
            "input_length": request.prompt_tokens,
            "output_length": request.output_tokens,
            "hash_ids": [known.setdefault(end, len(known)) for end in _block_ends(request, mooncake.BLOCK_TOKENS)],
        }
        yield json.dumps(row) + "\n"


def _block_ends(request: Request, block_tokens: int) -> Iterator[tuple[int, int]]:
    """Chain and position of the last token of every block: they tell its content and its whole prefix."""
    before = 0
    for place, (chain, tokens) in enumerate(request.pieces):
        after = before + tokens
        for end in range((before // block_tokens + 1) * block_tokens, after + 1, block_tokens):
            yield chain, end - before
        if place == len(request.pieces) - 1 and after % block_tokens:
            yield chain, tokens
        before = after


def _sharegpt(requests: Iterable[Request]) -> Iterator[str]:
    for request in requests:
        tokens = [_token(chain, place) for chain, count in request.pieces for place in range(count)]
        row = {
            "input_toks": request.prompt_tokens,
            "output_toks": request.output_tokens,
            "arrival_time_ns": round(request.arrival_s * 1_000_000_000),
            "input_tok_ids": tokens,
        }
        yield json.dumps(row) + "\n"


def _token(chain: int, place: int) -> int:
    """A token id that stands for a place in a chain: its number scrambled by two multiplications (splitmix64)."""
    mixed = (chain * 0x9E3779B97F4A7C15 + place * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ mixed >> 30) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ mixed >> 31) % VOCABULARY_TOKENS


def _generic(requests: Iterable[Request]) -> Iterator[str]:
    yield "arrival_time_s,session_id,prompt_tokens,output_tokens\n"
    for request in requests:
        session = request.session_id if request.session_id >= 0 else ""
        yield f"{request.arrival_s:.6f},{session},{request.prompt_tokens},{request.output_tokens}\n"


WRITERS: Mapping[str, Callable[[Iterable[Request]], Iterator[str]]] = {
    "azure": _azure,
    "mooncake": _mooncake,
    "sharegpt": _sharegpt,
    "generic": _generic,
}
