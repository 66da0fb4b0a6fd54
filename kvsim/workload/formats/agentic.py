"""Dynamo's agentic Mooncake: Mooncake's fields for requests that wait for others, and for tools."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from kvsim.workload.formats.base import Row, Wait
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

SCHEMA, VERSION = "dynamo.agentic_mooncake", 2
LENGTHS = ({"input_length", "output_length"}, {"input_tokens", "output_tokens"})
OWN_FIELDS = frozenset(("wait_for", "dependencies", "tool_wait_ms", "branches", "prefix_reset", "hash_ids"))
BLOCK_TOKENS = 512
_SCOPE_BITS = 64


class AgenticMooncake:
    """Rows with a ``request_id``, in either version of the schema; times are in ms.

    Version 1: a row waits for all of ``wait_for``, then ``delay`` plus ``tool_wait_ms``; others start at ``timestamp``.
    Version 2 begins with a header that says the block size. Each of a row's ``dependencies`` has a delay of its own and
    counts from the other's completion or dispatch; none is sent before ``not_before_ms``. Hash ids are those of one
    play, ``play_id``. ``branches`` and ``prefix_reset`` say nothing that ids and waits do not.
    """

    ids_cover_prompt = True
    notes: tuple[str, ...] = ()
    answers: Mapping[int, int] = MappingProxyType({})

    def __init__(self, hash_block_tokens: int | None) -> None:
        self._asked = hash_block_tokens
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS
        self._plays: dict[str, int] = {}

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        names = set(fields)
        if {"schema", "version", "hash_id_scope"} <= names:
            return True
        return "request_id" in names and any(pair <= names for pair in LENGTHS) and bool(names & OWN_FIELDS)

    def rows(self, record: Record) -> Iterable[Row]:
        if "schema" in record.values and "request_id" not in record.values:
            self._header(record)
            return ()
        return (self._row(record),)

    def rest(self) -> Iterable[Row]:
        return ()

    def _header(self, record: Record) -> None:
        schema, version = record.value("schema"), record.value("version")
        if schema != SCHEMA:
            raise record.error("schema", schema, SCHEMA)
        if version != VERSION:
            raise record.error("version", version, f"{VERSION}; version 1 has no header")
        block = record.tokens("block_size")
        if block < 1:
            raise record.error("block_size", block, "1 token or more")
        self.hash_block_tokens = self._asked or block

    def _row(self, record: Record) -> Row:
        values = record.values
        name = values.get("request_id")
        if not isinstance(name, str | int) or name == "":
            raise record.error("request_id", name, "the id of the request")
        play = values.get("play_id")
        waits = self._dependencies(record) if "play_id" in values or "dependencies" in values else _wait_for(record)
        start = "not_before_ms" if "not_before_ms" in values else "timestamp"
        session = values.get("session_id")
        return Row(
            record.line,
            record.time(start) if values.get(start) is not None else 0,
            "ms",
            _tokens(record, "input"),
            _tokens(record, "output"),
            session=None if session is None else str(session),
            hash_ids=None if values.get("hash_ids") is None else self._scoped(hash_list(record, "hash_ids"), play),
            name=str(name),
            waits=waits,
        )

    def _scoped(self, ids: Sequence[int | str], play: object) -> Sequence[int | str]:
        if play is None:
            return ids
        number = self._plays.setdefault(str(play), len(self._plays))
        return [f"{number}:{one}" if isinstance(one, str) else (number << _SCOPE_BITS) + one for one in ids]

    def _dependencies(self, record: Record) -> Sequence[Wait]:
        given = record.values.get("dependencies") or []
        if not isinstance(given, list):
            _not_dependencies(record, given)
        waits = []
        for one in given:
            if not isinstance(one, dict) or not isinstance(one.get("request_id"), str | int):
                _not_dependencies(record, one)
            trigger = one.get("trigger", "completion")
            if trigger not in ("completion", "dispatch"):
                raise record.error("dependencies.trigger", trigger, "completion, dispatch")
            delay = Record(record.path, record.line, {"dependencies.delay_ms": one.get("delay_ms", 0)})
            waits.append(
                Wait(str(one["request_id"]), delay.time("dependencies.delay_ms"), trigger == "dispatch", "dependencies")
            )
        return waits


def _not_dependencies(record: Record, value: object) -> NoReturn:
    raise record.error("dependencies", value, "a list of objects with a request_id")


def _wait_for(record: Record) -> Sequence[Wait]:
    given = record.values.get("wait_for") or ()
    if isinstance(given, str | int):
        given = [given]
    if not isinstance(given, list | tuple) or not all(isinstance(name, str | int) for name in given):
        raise record.error("wait_for", given, "a list of request ids")
    delay = sum(record.time(field) for field in ("delay", "tool_wait_ms") if record.values.get(field) is not None)
    return [Wait(str(name), delay) for name in given]


def _tokens(record: Record, what: str) -> int:
    """The length of the prompt or the answer, under either name; an answer without one counts as failed."""
    field = f"{what}_length" if record.values.get(f"{what}_length") is not None else f"{what}_tokens"
    if what == "output" and record.values.get(field) is None:
        return 0
    return record.tokens(field if field in record.values else f"{what}_length")
