"""Weka's agentic traces (kv-cache-tester): one document a conversation, with the sub-agents that it spawns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kvsim.workload.formats.base import Row, Wait
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

FIELDS = ("t", "type", "in", "out")
BLOCK_TOKENS = 64
CALLS, SUBAGENT, LEFT_ALONE = ("n", "s"), "subagent", "async_launched"
_SCOPE_BITS = 64
_TOGETHER_S = 1e-6
"""Times nearer than this are one."""


@dataclass
class _Done:
    """A request of the trace: its name, and when it ran."""

    name: str
    begun_s: float
    end_s: float


class _Stream:
    """The requests of one agent in their order: the next one waits for what has ended and nobody has waited for yet."""

    def __init__(self, before: Sequence[_Done] = ()) -> None:
        self.open = list(before)
        self.last: _Done | None = None

    def waits(self, begun_s: float, think_s: float | None) -> Sequence[Wait]:
        """What a request that began then waits for: all that had ended, as long after the last of them as it came."""
        ended = [done for done in self.open if done.end_s <= begun_s + _TOGETHER_S]
        if ended:
            self.open = [done for done in self.open if done not in ended]
            delay_s = max(0.0, begun_s - max(done.end_s for done in ended))
            return [Wait(done.name, delay_s, field="t") for done in ended]
        if self.last is not None and think_s is not None and self.last.end_s <= self.last.begun_s:
            # Without the time that an answer took, what is known is how long the client waited behind it.
            self.open = [done for done in self.open if done is not self.last]
            return [Wait(self.last.name, think_s, field="think_time")]
        beside = self.last or (self.open[-1] if self.open else None)
        return [] if beside is None else [Wait(beside.name, max(0.0, begun_s - beside.begun_s), True, "t")]

    def add(self, done: _Done) -> None:
        self.open.append(done)
        self.last = done


class Weka:
    """``t`` (s from the start), ``type`` (``n``, ``s`` or ``subagent``), ``in``, ``out``, ``hash_ids``, ``api_time``.

    A request waits for those of its agent that had ended when it was sent, and comes as long after them as it did; one
    that was sent while all others still ran waits until the last of these has been sent. A sub-agent begins after what
    came before it, and the agent goes on once it has ended, unless it was launched and left alone. Hash ids are those
    of one document. All documents start at once.
    """

    ids_cover_prompt = False
    answers: Mapping[int, int] = MappingProxyType({})

    def __init__(self, hash_block_tokens: int | None) -> None:
        self._asked = hash_block_tokens
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS
        self._head: Mapping[str, object] | None = None
        self._documents = 0
        self._stream = _Stream()
        self._joins: list[_Stream] = []

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"{self._documents:,} conversations that all start at once",) if self._documents > 1 else ()

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields) or {"t", "type", "agent_id", "requests"} <= set(fields)

    def rows(self, record: Record) -> Iterable[Row]:
        if record.head is not self._head:
            self._document(record)
        kind = record.value("type")
        if kind in CALLS:
            return (self._call(record, self._stream, self._agent),)
        if kind == SUBAGENT:
            return self._spawned(record)
        raise record.error("type", kind, f"{', '.join(CALLS)}, {SUBAGENT}")

    def rest(self) -> Iterable[Row]:
        return ()

    def _document(self, record: Record) -> None:
        self._head = record.head
        self._documents += 1
        self._agent = f"{record.head.get('id', self._documents)}"
        self._stream = _Stream()
        self._joins = []
        self._count = 0
        scope = record.head.get("hash_id_scope", "local")
        if scope != "local":
            raise record.error("hash_id_scope", scope, "local")
        if "block_size" in record.head:
            block = Record(record.path, record.line, record.head).tokens("block_size")
            if block < 1 or (self._documents > 1 and self._asked is None and block != self.hash_block_tokens):
                raise record.error("block_size", block, "1 or more, and one for all conversations of a file")
            self.hash_block_tokens = self._asked or block

    def _call(self, record: Record, stream: _Stream, session: str, offset_s: float = 0.0) -> Row:
        begun_s = float(record.time("t")) + offset_s
        given = {name: record.values.get(name) for name in ("api_time", "think_time")}
        api_s, think_s = (None if given[name] is None else float(record.time(name)) for name in given)
        for join in self._joins if stream is self._stream else ():
            stream.open += [done for done in join.open if done.end_s <= begun_s + _TOGETHER_S]
            join.open = [done for done in join.open if done.end_s > begun_s + _TOGETHER_S]
        waits = stream.waits(begun_s, think_s)
        self._count += 1
        name = f"{self._documents}:{self._count}"
        stream.add(_Done(name, begun_s, begun_s + (api_s or 0.0)))
        ids = hash_list(record, "hash_ids") if record.values.get("hash_ids") is not None else None
        return Row(
            record.line,
            0 if waits else begun_s,
            "s",
            record.tokens("in"),
            record.tokens("out"),
            session=session,
            hash_ids=None if ids is None else [self._scoped(one) for one in ids],
            name=name,
            waits=waits,
        )

    def _scoped(self, one: int | str) -> int | str:
        return f"{self._documents}:{one}" if isinstance(one, str) else (self._documents << _SCOPE_BITS) + one

    def _spawned(self, record: Record) -> Iterable[Row]:
        begun_s = float(record.time("t"))
        inner = record.value("requests")
        if not isinstance(inner, list):
            raise record.error("requests", inner, "a list of requests")
        before = [done for done in self._stream.open if done.end_s <= begun_s + _TOGETHER_S]
        stream = _Stream(before or self._stream.open[-1:])
        rows = []
        for values in inner:
            if not isinstance(values, dict) or values.get("type") not in CALLS:
                raise record.error("requests", values, f"requests of type {', '.join(CALLS)}")
            one = Record(record.path, record.line, values, record.head)
            relative = float(one.time("t")) + _TOGETHER_S < begun_s
            session = f"{self._agent}:{record.values.get('agent_id', self._count)}"
            rows.append(self._call(one, stream, session, begun_s if relative else 0.0))
        if record.values.get("status") != LEFT_ALONE:
            names = {done.name for done in before}
            stream.open = [done for done in stream.open if done.name not in names]
            self._joins.append(stream)
        return rows
