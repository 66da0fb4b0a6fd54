"""A load for vLLM's engine in a process of its own, and its answer as a measurement."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.fields import MOST_S, Fields
from kvsim.measure.cloud import in_process
from kvsim.measure.cloud.server import END_S, ServerFailedError, end, last_words

if TYPE_CHECKING:
    from kvsim.measure.cloud.plan import CloudPlan, Load
    from kvsim.measure.result import MeasuredRun, RequestRow


@dataclass(frozen=True)
class EnginePlace:
    """Where the engine runs."""

    python: str
    """The interpreter that has vLLM."""
    environment: Mapping[str, str]
    folder: Path
    log: Path
    until_s: float
    """When it has to be over, by ``time.monotonic``."""


def run_engine(plan: CloudPlan, load: Load, place: EnginePlace, content_seed: int) -> tuple[MeasuredRun, float]:
    """The load, and how many seconds the engine took to be ready. Raises ``ServerFailedError``."""
    asked, answered = place.folder / "asked.json", place.folder / "answered.json"
    asked.write_text(json.dumps(_asked(plan, load, content_seed)), encoding="utf-8")
    started = datetime.now(UTC)
    try:
        _run([place.python, in_process.__file__, str(asked), str(answered)], place)
        found = Fields("the engine's answer", json.loads(answered.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise ServerFailedError(f"the engine left no answer: {last_words(place.log)}") from None
    finally:
        asked.unlink()
        answered.unlink(missing_ok=True)
    return _measured(plan, load, found, started.isoformat(timespec="milliseconds")), found.number("ready_s", MOST_S)


def _asked(plan: CloudPlan, load: Load, content_seed: int) -> dict[str, Any]:
    from kvsim.measure.prompts import Prompts
    from kvsim.measure.settings import Sending

    alphabet = np.arange(*Sending().vocabulary, dtype=np.int64)
    prompts = Prompts(load.workload, alphabet, content_seed)
    rows = []
    for request in load.workload:
        ids = np.concatenate([part.ids for part in prompts.parts(request)])
        rows.append([ids.tolist(), request.output_tokens])
    users = load.workload.max_concurrency
    seats = () if users is None else ("--max-num-seqs", str(users))
    arguments = [*plan.arguments(prefix_caching=load.prefix_caching), *seats]
    return {"model": plan.model, "arguments": arguments, "prompts": rows}


def _run(command: list[str], place: EnginePlace) -> None:
    with place.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(place.environment),
            start_new_session=True,
        )
        try:
            code = process.wait(max(0.0, place.until_s - time.monotonic() - END_S))
        except subprocess.TimeoutExpired:
            raise ServerFailedError(f"the engine was not done in time: {last_words(place.log)}") from None
        finally:
            end(process)
    if code:
        raise ServerFailedError(f"the engine ended with {code}: {last_words(place.log)}")


def _measured(plan: CloudPlan, load: Load, found: Fields, started_at: str) -> MeasuredRun:
    from kvsim.measure.result import MeasuredRun

    rows = tuple(
        _row(request, Fields(found.file, row, f"rows[{place}]."))
        for place, (request, row) in enumerate(zip(load.workload, found.get("rows"), strict=True))
    )
    return MeasuredRun(
        rows=rows,
        duration_s=max(found.number("duration_s", MOST_S), *(row.finish_s or 0.0 for row in rows)),
        model=plan.model,
        workload=load.words,
        seed=plan.seed,
        started_at=started_at,
        asked=len(load.workload),
        max_concurrency=load.workload.max_concurrency,
        made_by="vLLM's engine in a process",
        notes=(
            "times are the engine's own, from when its front end was given a request: no HTTP, no detokenisation",
            "the engine tells of first and last tokens: gaps between them are taken for equal",
        ),
        server={"engine": "vllm"},
    )


def _row(request: Any, fields: Fields) -> RequestRow:
    from kvsim.measure.result import RequestRow

    first_s, finish_s = fields.number("first_token_s", MOST_S), fields.number("finish_s", MOST_S)
    tokens = fields.count("output_tokens")
    # The engine tells of the first token and of the last: those between them are given equal gaps.
    times_s = np.linspace(first_s, finish_s, tokens) if tokens > 1 else np.array([first_s])
    return RequestRow(
        request_id=request.request_id,
        scheduled_s=0.0,
        sent_s=fields.number("sent_s", MOST_S),
        prompt_tokens=fields.count("prompt_tokens"),
        output_tokens=tokens,
        cached_tokens=fields.maybe_count("cached_tokens"),
        first_token_s=first_s,
        finish_s=finish_s,
        chunk_s=times_s.tolist(),
        chunk_tokens=[1] * tokens,
        asked_tokens=request.output_tokens,
        pieces=request.pieces,
        output_chain=request.output_chain,
        session_id=request.session_id,
    )
