"""Writing a workload as a trace file of each schema that kvsim reads."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.formats import agentic, aiperf, bailian, mooncake
from kvsim.workload.graph import RequestGraph
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

AZURE_START = datetime(2024, 1, 1, tzinfo=UTC)
# Token ids that every published tokenizer has.
VOCABULARY_TOKENS = 32_000
AGENTIC_BLOCK_TOKENS = 64
"""Blocks of the agentic Mooncake files that are written; their header says it."""


def write_trace(workload: Workload, path: str | Path, fmt: str) -> tuple[str, ...]:
    """Writes ``path`` in schema ``fmt``, compressed where it ends in ``.gz``; the file appears whole or not at all.

    Times are rounded to what the schema holds. Returns what else of the workload the schema cannot hold, as sentences.
    Raises ``WorkloadError`` for an unknown schema, a folder that is not there or a disk that is full.
    """
    if fmt not in WRITERS:
        raise WorkloadError(f"workload format '{fmt}' cannot be written; {nearest(fmt, WRITERS)}")
    path = Path(path)
    if not path.parent.is_dir():
        raise WorkloadError(f"{path}: the folder {path.parent} does not exist")
    try:
        _write_whole(path, WRITERS[fmt](workload))
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be written: {error.strerror}") from error
    return _lost(workload, fmt)


def _lost(workload: Workload, fmt: str) -> tuple[str, ...]:
    lost = []
    if workload.graph is not None and fmt != "agentic_mooncake":
        waiting = int(np.count_nonzero(~workload.graph.is_root))
        if fmt == "aiperf":
            waiting -= int(np.count_nonzero(_waits_in_session(workload)))
        if waiting:
            turns = f"that {waiting:,} requests wait for answers" + (" outside their session" * (fmt == "aiperf"))
            lost.append(f"{fmt} cannot say {turns}: their times are those of an open loop")
    if workload.max_concurrency is not None:
        lost.append(f"{fmt} cannot say that at most {workload.max_concurrency} requests are in flight")
    if np.any(workload.piece_chain >= 0) and fmt not in HOLD_CONTENT:
        lost.append(f"{fmt} cannot say what prompts share; it can: {', '.join(HOLD_CONTENT)}")
    return tuple(lost)


def _write_whole(path: Path, lines: Iterable[str]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as raw, _compressed(raw, path) as stream:
            for line in lines:
                stream.write(line.encode())
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _compressed(raw: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes]]:
    """Without a name or a time inside: the same requests give the same bytes."""
    if path.suffix != ".gz":
        return nullcontext(raw)
    return cast(AbstractContextManager[IO[bytes]], gzip.GzipFile("", "wb", fileobj=raw, mtime=0))


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
        chain, count = request.pieces[-1]
        begin = count if chain == request.output_chain else 0
        answer = [_token(request.output_chain, begin + place) for place in range(request.output_tokens)]
        row = {
            "input_toks": request.prompt_tokens,
            "output_toks": request.output_tokens,
            "arrival_time_ns": round(request.arrival_s * 1_000_000_000),
            "input_tok_ids": tokens,
            "output_tok_ids": answer,
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


def _burstgpt_v1(requests: Iterable[Request]) -> Iterator[str]:
    """Release 1: whole seconds, no sessions."""
    yield "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    for request in requests:
        prompt, output = request.prompt_tokens, request.output_tokens
        yield f"{round(request.arrival_s)},ChatGPT,{prompt},{output},{prompt + output},Conversation log\n"


def _burstgpt(requests: Iterable[Request]) -> Iterator[str]:
    """Releases 2 and 3. The elapsed time is empty: nobody served these."""
    yield "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    for request in requests:
        prompt, output = request.prompt_tokens, request.output_tokens
        session = f"s{request.session_id}" if request.session_id >= 0 else ""
        kind = "Conversation log" if session else "API log"
        yield f"{request.arrival_s:.3f},{session},,GPT-4,{prompt},{output},{prompt + output},{kind}\n"


def _splitwise(requests: Iterable[Request]) -> Iterator[str]:
    yield "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    for request in requests:
        yield f"{request.request_id},2,0,{request.arrival_s:.6f},1,{request.prompt_tokens},{request.output_tokens}\n"


def _bailian(requests: Iterable[Request]) -> Iterator[str]:
    """A turn's parent is the request before it of its session."""
    known: dict[tuple[int, int], int] = {}
    latest: dict[int, tuple[int, int]] = {}
    for request in requests:
        parent, turn = latest.get(request.session_id, (-1, 0))
        if request.session_id >= 0:
            latest[request.session_id] = request.request_id, turn + 1
        row = {
            "chat_id": request.request_id,
            "parent_chat_id": parent,
            "timestamp": round(request.arrival_s, 3),
            "input_length": request.prompt_tokens,
            "output_length": request.output_tokens,
            "type": "text",
            "turn": turn + 1,
            "hash_ids": [known.setdefault(end, len(known)) for end in _block_ends(request, bailian.BLOCK_TOKENS)],
        }
        yield json.dumps(row) + "\n"


def _aiperf(workload: Workload) -> Iterator[str]:
    """Turns that wait for the one before them in their session carry a delay, others their time."""
    known: dict[tuple[int, int], int] = {}
    waits = _waits_in_session(workload)
    for request in workload:
        row: dict[str, object] = {}
        if request.session_id >= 0:
            row["session_id"] = f"s{request.session_id}"
        if workload.graph is not None and waits[request.request_id]:
            wait = workload.graph.offsets[request.request_id]
            row["delay"] = round(float(workload.graph.delay_s[wait]) * 1000, 3)
        else:
            row["timestamp"] = round(request.arrival_s * 1000, 3)
        row["input_length"] = request.prompt_tokens
        row["output_length"] = request.output_tokens
        row["hash_ids"] = [known.setdefault(e, len(known)) for e in _block_ends(request, aiperf.BLOCK_TOKENS)]
        yield json.dumps(row) + "\n"


def _agentic_mooncake(workload: Workload) -> Iterator[str]:
    """Version 2, all of one play: what requests of different sessions share is held as well."""
    source = {"format": "kvsim", "digest": ""}
    header = {"schema": agentic.SCHEMA, "version": agentic.VERSION, "block_size": AGENTIC_BLOCK_TOKENS}
    yield json.dumps({**header, "hash_id_scope": "local", "source": source}) + "\n"
    known: dict[tuple[int, int], int] = {}
    graph = workload.graph or RequestGraph.turns(np.full(len(workload), -1), np.zeros(len(workload)))
    offsets, earliest_s = graph.offsets.tolist(), graph.earliest_s.tolist()
    for request in workload:
        row = request.request_id
        waits = range(offsets[row], offsets[row + 1])
        line: dict[str, object] = {
            "request_id": f"r{row}",
            "play_id": "0",
            "session_id": _session_name(request),
            "model": "",
            "input_length": request.prompt_tokens,
            "output_length": request.output_tokens,
            "hash_ids": [known.setdefault(e, len(known)) for e in _block_ends(request, AGENTIC_BLOCK_TOKENS)],
            "not_before_ms": _ms(earliest_s[row] if waits else request.arrival_s),
        }
        if waits:
            line["dependencies"] = [_dependency(workload, graph, row, wait) for wait in waits]
        yield json.dumps(line) + "\n"


def _dependency(workload: Workload, graph: RequestGraph, row: int, wait: int) -> dict[str, object]:
    on, several = int(graph.on[wait]), graph.offsets[row + 1] - graph.offsets[row] > 1
    same = 0 <= workload.session_id[row] == workload.session_id[on]
    return {
        "request_id": f"r{on}",
        "trigger": "dispatch" if graph.from_sent[wait] else "completion",
        "delay_ms": _ms(float(graph.delay_s[wait])),
        "relation": "sequence" if same else "join" if several else "spawn",
    }


def _session_name(request: Request) -> str:
    """The schema has no request without a session: such a one is its own."""
    return f"s{request.session_id}" if request.session_id >= 0 else f"r{request.request_id}"


def _ms(time_s: float) -> float:
    return round(time_s * 1000, 6)


def _waits_in_session(workload: Workload) -> npt.NDArray[np.bool_]:
    """Whether each request waits for the one before it in its own session."""
    before = np.full(len(workload), -1, dtype=np.int64)
    order = np.argsort(workload.session_id, kind="stable")
    same = np.diff(workload.session_id[order]) == 0
    before[order[1:][same]] = order[:-1][same]
    in_session = (workload.session_id >= 0) & (before >= 0)
    if workload.graph is None:
        return np.zeros_like(in_session)
    waits: npt.NDArray[np.bool_] = in_session & (workload.graph.as_turns()[0] == before)
    return waits


WRITERS: Mapping[str, Callable[[Workload], Iterator[str]]] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "burstgpt_v1": _burstgpt_v1,
    "mooncake": _mooncake,
    "splitwise": _splitwise,
    "bailian": _bailian,
    "aiperf": _aiperf,
    "agentic_mooncake": _agentic_mooncake,
    "sharegpt": _sharegpt,
    "generic": _generic,
}
HOLD_CONTENT = ("mooncake", "agentic_mooncake", "bailian", "aiperf", "sharegpt")
"""Schemas that say what prompts share, by hash ids or token ids."""
