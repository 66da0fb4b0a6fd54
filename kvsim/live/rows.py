"""Rows of a measurement as the requests that are predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvsim.errors import ConfigError
from kvsim.live.served import Served
from kvsim.live.server import Told
from kvsim.measure.result import MeasuredRun, RequestRow
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

FEWEST = 10
"""Answered requests of a run at least: figures of fewer say nothing."""
MOST_FAILED = 0.05
"""Share of the requests that may have no answer. Beyond it the figures are those of survivors."""


def served_of(run: MeasuredRun, name: str, fewest: int = FEWEST) -> Served:
    """The answered requests of ``run``, at the times at which they were sent. Raises ``ConfigError``, which begins with
    ``name``, where too few are."""
    rows = sorted(run.answered, key=lambda row: (row.sent_s, row.request_id))
    if len(rows) < fewest:
        raise ConfigError(f"{name}: {len(rows)} of {len(run.rows)} requests have an answer, allowed: {fewest} or more")
    failed = 1 - len(rows) / len(run.rows)
    if failed > MOST_FAILED:
        kinds = ", ".join(f"{kind} {count}" for kind, count in run.failures.items())
        what = f"{failed:.0%} of {len(run.rows)} requests have no answer ({kinds})"
        raise ConfigError(f"{name}: {what}, allowed: up to {MOST_FAILED:.0%}")
    for row in rows:
        _check(row, name)
    first_s = rows[0].sent_s
    arrival_s = np.array([row.sent_s for row in rows]) - first_s
    tokens = [_token_s(row) for row in rows]
    requests = {
        "arrival_s": arrival_s,
        "first_token_s": np.array([row.first_token_s for row in rows], dtype=np.float64) - first_s,
        "finish_s": np.array([row.finish_s for row in rows], dtype=np.float64) - first_s,
        "prompt_tokens": np.array([row.prompt_tokens for row in rows], dtype=np.float64),
        "output_tokens": np.array([row.output_tokens for row in rows], dtype=np.float64),
        "hit_tokens": np.array([np.nan if row.cached_tokens is None else row.cached_tokens for row in rows]),
    }
    return Served(
        name=name,
        workload=_workload(rows, arrival_s, run.workload or name),
        requests=requests,
        request_ids=np.array([row.request_id for row in rows], dtype=np.int64),
        token_s=np.concatenate(tokens) - first_s,
        token_offsets=np.concatenate(([0], np.cumsum([len(each) for each in tokens]))).astype(np.int64),
        failures=run.failures,
        counters={key: run.metrics.counted(key) for key in ("prefix_queries", "prefix_hits", "preemptions")},
        notes=tuple(_notes(run, rows)),
    )


def told_of(run: MeasuredRun) -> Told | None:
    """What the server said of itself when it was measured; ``None``: nobody wrote it down."""
    if not run.model:
        return None
    version, longest = run.server.get("version"), run.server.get("max_model_len")
    arguments: dict[str, object] = {"max_model_len": longest} if isinstance(longest, int) else {}
    sources = ("the rows",) if run.server else ()
    return Told(version if isinstance(version, str) else "", run.model, run.model, arguments, sources)


def _check(row: RequestRow, name: str) -> None:
    """Raise ``ConfigError`` for an answered row whose times or tokens cannot be."""
    where = f"{name}: request {row.request_id}"
    if row.first_token_s is None or row.finish_s is None:
        raise ConfigError(f"{where}: is answered, and has no times of its first and last token")
    if not row.sent_s <= row.first_token_s <= row.finish_s:
        times = f"sent {row.sent_s:g} s, first token {row.first_token_s:g} s, last {row.finish_s:g} s"
        raise ConfigError(f"{where}: {times}; allowed: in that order")
    if row.prompt_tokens < 1 or row.output_tokens < 1:
        raise ConfigError(f"{where}: {row.prompt_tokens} prompt and {row.output_tokens} output tokens; allowed: from 1")
    if row.cached_tokens is not None and not 0 <= row.cached_tokens <= row.prompt_tokens:
        raise ConfigError(f"{where}: {row.cached_tokens} tokens cached; allowed: up to its {row.prompt_tokens}")


def _token_s(row: RequestRow) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """When its tokens came; where that is not known, evenly from the first to the last."""
    found = row.token_s
    if len(found) == row.output_tokens:
        return found
    assert row.first_token_s is not None and row.finish_s is not None  # checked
    return np.linspace(row.first_token_s, row.finish_s, row.output_tokens)


def _workload(rows: Sequence[RequestRow], arrival_s: np.ndarray, source: str) -> Workload:
    pieces, outputs = [], []
    for place, row in enumerate(rows):
        found = _pieces(row, place)
        pieces.append(found)
        outputs.append(row.output_chain if found == row.pieces else -1 - place)
    flat = [pair for each in pieces for pair in each]
    return Workload(
        arrival_s=arrival_s,
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int32),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int32),
        session_id=np.array([row.session_id for row in rows], dtype=np.int64),
        output_chain=np.array(outputs, dtype=np.int64),
        piece_offsets=np.concatenate(([0], np.cumsum([len(each) for each in pieces]))).astype(np.int64),
        piece_chain=np.array([chain for chain, _ in flat], dtype=np.int64),
        piece_tokens=np.array([tokens for _, tokens in flat], dtype=np.int32),
        info=WorkloadInfo(source=source, format="synthetic"),
    )


def _pieces(row: RequestRow, place: int) -> tuple[tuple[int, int], ...]:
    """The prompt as long as the server counted it: cut at its end, or with tokens of its own there."""
    found, left = [], row.prompt_tokens
    for chain, tokens in row.pieces:
        if left:
            found.append((chain, min(tokens, left)))
            left -= found[-1][1]
    if left:
        found.append((-1 - place, left))
    return tuple(found)


def _notes(run: MeasuredRun, rows: Sequence[RequestRow]) -> list[str]:
    found = list(run.notes)
    if run.is_saturated:
        found.append("the client could not keep its schedule: times are in part its own")
    if run.max_concurrency is not None:
        found.append("requests were sent as others ended: they are predicted at the times at which they were sent")
    if run.incomplete:
        found.append(f"the measurement was interrupted: {len(run.rows)} of {run.asked} requests were sent")
    if not any(row.pieces for row in rows) and any(row.cached_tokens for row in rows):
        found.append(
            "the rows do not say what prompts share, though the server found tokens cached: none are predicted"
        )
    return found
