"""Workload files of the queue lab: JSON, every request on its own, read with the fault's file, request and field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, Strict, ValidationError, model_validator

from kvsim.config.section import Name, Section
from kvsim.config.yaml_source import kind, named, shown
from kvsim.errors import WorkloadError, nearest

MOST_MS = 1e12
"""Thirty years."""
MOST_TOKENS = 10**9
Milliseconds = Annotated[float, Field(ge=0, le=MOST_MS)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class QueuedRequest(Section):
    """One request of a file."""

    id: Name
    arrival_ms: Milliseconds
    """When its client sends it, from the start of the run."""
    prompt_tokens: Tokens
    output_tokens: Tokens
    deadline_ms: Annotated[float, Field(gt=0, le=MOST_MS)] | None = None
    """By when the last token is wanted, counted from the request's own arrival."""
    prefix_group: Name | None = None
    """Requests of one group begin with the same ``prefix_tokens`` tokens."""
    prefix_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.prefix_group is None) != (self.prefix_tokens is None):
            raise ValueError("prefix_group and prefix_tokens: one of both is missing")
        if self.prefix_tokens is not None and self.prefix_tokens > self.prompt_tokens:
            raise ValueError(
                f"prefix_tokens = {self.prefix_tokens}: longer than the prompt, whose prompt_tokens = "
                f"{self.prompt_tokens}"
            )
        return self

    @property
    def footprint_tokens(self) -> int:
        """Tokens whose KV it holds at its end: prompt and answer."""
        return self.prompt_tokens + self.output_tokens


class QueuedRequests(Section):
    """A whole file, in any order of arrival."""

    name: Name
    requests: Annotated[tuple[QueuedRequest, ...], Field(min_length=1), Strict(False)]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        ids: set[str] = set()
        prefixes: dict[str, QueuedRequest] = {}
        for request in self.requests:
            if request.id in ids:
                raise ValueError(f"requests: id {shown(request.id)} stands there twice")
            ids.add(request.id)
            if request.prefix_group is None:
                continue
            first = prefixes.setdefault(request.prefix_group, request)
            if first.prefix_tokens != request.prefix_tokens:
                raise ValueError(
                    f"request {shown(request.id)}: prefix_tokens = {request.prefix_tokens} in group "
                    f"{shown(request.prefix_group)}, where request {shown(first.id)} has {first.prefix_tokens}"
                )
        return self


def read_workload(path: Path) -> QueuedRequests:
    """Read a file. Raises ``WorkloadError``, which names file, request and field."""
    where = named(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise WorkloadError(f"{where}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{where}: is not UTF-8 text (byte {error.start}: {error.reason})") from None
    if not text.strip():
        raise WorkloadError(f"{where}: is empty; JSON with a name and requests is wanted")
    try:
        tree = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"{where}, line {error.lineno}: is no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{where}: is no JSON: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise WorkloadError(f"{where}: holds {kind(tree)}; a name and requests are wanted")
    try:
        return QueuedRequests.model_validate(tree)
    except ValidationError as error:
        raise WorkloadError(f"{where}: {_said(error, tree)}") from None


def text_of(workload: QueuedRequests) -> str:
    """The file's text: a line a request, what it does not have left out."""
    rows = [
        json.dumps(one.model_dump(exclude_none=True), ensure_ascii=False, allow_nan=False) for one in workload.requests
    ]
    name = json.dumps(workload.name, ensure_ascii=False)
    return f'{{\n  "name": {name},\n  "requests": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {shown(key)} stands twice in one object")
        found[key] = value
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _said(error: ValidationError, tree: Mapping[str, Any]) -> str:
    """The first fault in one line, its request by place and by id."""
    fault = error.errors(include_url=False)[0]
    place, value = fault["loc"], fault["input"]
    where = _where(place, tree)
    if fault["type"] == "extra_forbidden":
        known = (QueuedRequest if len(place) > 1 else QueuedRequests).model_fields
        return f"{where}unknown field {shown(place[-1])}; {nearest(str(place[-1]), known)}"
    if fault["type"] == "missing":
        return f"{where}{place[-1]} is missing"
    if fault["type"] == "value_error":
        return f"{where}{fault['ctx']['error']}"
    if place == ("requests",):
        return f"requests: {'nothing is in it' if value == [] else kind(value)}; a list of requests is wanted"
    if isinstance(place[-1], int):
        return f"{where}{kind(value)}; an object with {', '.join(QueuedRequest.model_fields)} is wanted"
    message = fault["msg"][:1].lower() + fault["msg"][1:]
    if isinstance(value, dict | list):
        return f"{where}{place[-1]}: {message}; {kind(value)} stands there"
    return f"{where}{place[-1]} = {shown(value)}: {message}"


def _where(place: tuple[int | str, ...], tree: Mapping[str, Any]) -> str:
    if len(place) < 2 or not isinstance(place[1], int):
        return "" if len(place) < 2 else f"{place[0]}: "
    request = tree["requests"][place[1]]
    name = request.get("id") if isinstance(request, dict) else None
    called = f" ({shown(name)})" if isinstance(name, str) else ""
    return f"request {place[1] + 1}{called}: "
