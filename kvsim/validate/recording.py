"""Recordings of a real scheduler: its settings, the requests it was given, and what it decided in every step."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from kvsim.errors import ConfigError, WorkloadError
from kvsim.fields import Fields
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.vllm import MOST, scheduler_settings

Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class RecordedRequest(_Part):
    """One request; it arrives before the step ``arrival_step`` is scheduled, in the order of the list."""

    arrival_step: Whole
    id: str
    prompt_token_ids: Annotated[list[int], Field(min_length=1)]
    output_token_ids: Annotated[list[int], Field(min_length=1)]
    priority: Annotated[int, Field(ge=-MOST, le=MOST)] = 0
    arrival_s: float | None = None
    """When it arrives by the clock of a recorded pipeline; ``None``: ``arrival_step``. Of equal priorities, who came
    first goes before."""
    max_tokens: Count | None = None
    """``None``: as many as ``output_token_ids``."""
    abort_step: Whole | None = None
    """The step while which its client goes: it is aborted before the step's output is applied. ``None``: it stays."""
    adapter: Whole = 0
    """LoRA adapter that it goes to."""
    accepted_drafts: list[Whole] = Field(default_factory=list)
    """Speculative decoding: of the drafts of its n-th step with any, how many are accepted, at most those there are;
    from the beginning again behind the last one."""
    proposed_drafts: list[Whole] | None = None
    """Drafts that its n-th step with tokens gives for the next; ``None``: as many as there may be."""


class RecordedStep(_Part):
    """What was decided in one step, and how things stood after it had been decided."""

    step: Whole
    scheduled: list[Annotated[tuple[str, Count], Field(strict=False)]]
    """Who computes how many tokens, in order."""
    preempted: list[str]
    cached_tokens_at_admission: dict[str, Whole]
    """Cached tokens of requests that were admitted for the first time."""
    running: list[str]
    waiting: list[str]
    free_blocks: Whole
    drafts: dict[str, Whole] = Field(default_factory=dict)
    """Drafts among the scheduled tokens, by request that has any; none without speculative decoding."""
    held: dict[str, list[Whole]] = Field(default_factory=dict)
    """Blocks that each running request holds, by group of layers; none where there is one group."""
    applied: Whole = 0
    """Steps of a pipeline whose outputs had come before it was scheduled."""


def _settings(recorded: object) -> EngineSettings:
    return scheduler_settings(Fields("", recorded, "config."))


class Recording(_Part):
    """A whole recording."""

    engine: str = ""
    settings: Annotated[EngineSettings, PlainValidator(_settings), Field(alias="config")]
    requests: list[RecordedRequest]
    steps: list[RecordedStep]

    def output_tokens(self, request: RecordedRequest) -> int:
        """How many tokens it generates before it is done or reaches ``max_model_len``."""
        return min(len(request.output_token_ids), self.settings.max_model_len - len(request.prompt_token_ids))


def read_recording(path: Path) -> Recording:
    """Read a recording, plain JSON or gzip. Raises ``WorkloadError`` with the file, the field and what is wrong."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        found = Recording.model_validate(json.loads(content))
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read: {error.strerror or 'no gzip file'}") from None
    except (EOFError, zlib.error):
        raise WorkloadError(f"{path}: cannot be read: the gzip data is cut short or damaged") from None
    except ConfigError as error:
        raise WorkloadError(f"{path}: {error}") from None
    except ValidationError as invalid:
        raise WorkloadError(f"{path}: {_finding(invalid)}") from None
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: is not JSON: {str(error).splitlines()[0]}") from None
    _check(path, found)
    return found


def _finding(invalid: ValidationError) -> str:
    first = invalid.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place} is missing: this is no recording of a scheduler"
    return f"{place or 'the file'}: {first['msg']}"


def _check(path: Path, found: Recording) -> None:
    """What the types cannot say."""
    if not found.requests or not found.steps:
        raise WorkloadError(f"{path}: holds no {'step' if found.requests else 'request'}: nothing to compare")
    last = -1
    known: set[str] = set()
    for place, request in enumerate(found.requests):
        where = f"{path}: requests.{place}"
        if request.id in known:
            raise WorkloadError(f"{where}.id: {request.id!r} stands twice")
        if request.arrival_step < last:
            raise WorkloadError(f"{where}.arrival_step: {request.arrival_step} after {last}; allowed: in order")
        _check_length(where, request, found)
        known.add(request.id)
        last = request.arrival_step
    for place, step in enumerate(found.steps):
        if step.step != place:
            raise WorkloadError(f"{path}: steps.{place}.step: {step.step}; allowed: {place}, one entry a step")


def _check_length(where: str, request: RecordedRequest, recording: Recording) -> None:
    settings, prompt_tokens = recording.settings, len(request.prompt_token_ids)
    if settings.async_scheduling and (request.max_tokens or 0) > len(request.output_token_ids):
        raise WorkloadError(
            f"{where}: stops before max_tokens = {request.max_tokens}: with asynchronous scheduling the step too "
            "many that its end-of-sequence token costs is not replayed"
        )
    if settings.speculation is not None and not request.accepted_drafts:
        raise WorkloadError(f"{where}.accepted_drafts is missing: what is accepted decides every step")
    if prompt_tokens >= settings.max_model_len:
        raise WorkloadError(
            f"{where}: {prompt_tokens} prompt tokens; allowed: fewer than max_model_len = {settings.max_model_len}"
        )
    whole_tokens = prompt_tokens + recording.output_tokens(request)
    if settings.blocks_of(whole_tokens) > settings.num_blocks:
        raise WorkloadError(f"{where}: {whole_tokens} tokens; allowed: the {settings.room_tokens} that the blocks hold")
