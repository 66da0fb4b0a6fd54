"""AIPerf's conversations: ``multi_turn`` and ``dag_jsonl`` inputs, one session a line with its turns, as text."""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from kvsim import room
from kvsim.errors import WorkloadError, nearest
from kvsim.workload.formats.base import Row, Wait
from kvsim.workload.formats.textblocks import CHARACTERS_PER_TOKEN, GUESS, UnknownText, characters, tokens_of
from kvsim.workload.formats.tokenblocks import TokenBlocks
from kvsim.workload.records import Record

BLOCK_TOKENS = 16
ISOLATED = "message_array_with_responses"
LENGTHS = ("output_length", "max_tokens", "max_completion_tokens")
CHARACTER_BYTES = 16
"""Memory that a character of the text takes: all of it is held until the last session is known."""
_LOOK_EVERY = 1 << 24
"""Characters that are read from one look at the memory that is left to the next."""
DEEPEST = 200
"""Sessions that spawn each other, one below the other."""


class _Turn(NamedTuple):
    record: Record
    text: str
    tools: str
    output: int
    delay: int | float
    time: int | float | None


class _Session(NamedTuple):
    record: Record
    name: str
    system: str
    turns: Sequence[_Turn]


class AiperfTurns:
    """``session_id`` and ``turns``; of a turn ``text``, ``texts`` or ``messages``, ``delay`` or ``timestamp`` (ms).

    A turn waits for the answer before it and its delay, and carries all that was said, unless ``context_mode`` is
    ``message_array_with_responses``. ``forks`` go on from there with what was said, in the parent's place unless in the
    background; ``spawns`` begin anew, and the turn ``join_at``, else the next one, waits for all of them.
    ``pre_session_spawns`` begin with the parent. An ``orchestrator`` asks nothing itself: each of its rounds waits for
    the one before and the think time. Sessions that nobody spawns start with the trace. An answer is as long as
    ``output_length`` or ``max_tokens`` says; without either nobody knows, and the row counts as failed.
    """

    ids_cover_prompt = False
    answers: Mapping[int, int] = MappingProxyType({})

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS
        self._blocks = TokenBlocks(self.hash_block_tokens * CHARACTERS_PER_TOKEN)
        self._unknown = UnknownText()
        self._sessions: dict[str, _Session] = {}
        self._begun: dict[str, int] = {}
        self._other_media = False
        self._characters = self._looked_at = 0

    @property
    def notes(self) -> tuple[str, ...]:
        media = ("images, audio and video are not counted",) if self._other_media else ()
        return (f"prompts are known by their text alone: {GUESS}", *media)

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return "turns" in fields or {"session_id", "orchestrator", "spawns"} <= set(fields)

    def rows(self, record: Record) -> Iterable[Row]:
        name = str(record.values.get("session_id") or f"line {record.line}")
        if name in self._sessions:
            raise record.error("session_id", name, "each id once")
        turns = record.values.get("turns") or []
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise record.error("turns", turns, "a list of objects, one a turn")
        if not turns and not record.values.get("orchestrator"):
            raise record.error("turns", turns, "one turn or more")
        told = [Record(record.path, record.line, turn) for turn in turns]
        system = ""
        if len(told) > 1 and told[0].values.get("role") == "system" and told[1].values.get("role") != "system":
            system = self._text(told[0])
            told = told[1:]
        session = self._sessions[name] = _Session(record, name, system, [self._turn(turn) for turn in told])
        self._characters += len(system) + sum(len(turn.text) + len(turn.tools) for turn in session.turns)
        if self._characters >= self._looked_at + _LOOK_EVERY:
            self._looked_at = self._characters
            what = f"{record.path}:{record.line}: {self._characters:,} characters of text so far"
            room.require(
                self._characters * CHARACTER_BYTES, what, "--workload-limit does not help: a session may need all"
            )
        return ()

    def rest(self) -> Iterable[Row]:
        children: set[str] = set()
        for session in self._sessions.values():
            children.update(child for child, _ in self._children(session))
        for session in self._sessions.values():
            if session.name not in children:
                yield from self._instance(session, [], array("I"), ())[0]
        unborn = [name for name in self._sessions if name not in self._begun]
        if unborn:
            session = self._sessions[unborn[0]]
            raise session.record.error(
                "session_id", session.name, "a session that is not spawned by its own descendants"
            )

    def _turn(self, record: Record) -> _Turn:
        values = record.values
        extra = values.get("extra")
        lengths = [(record, field) for field in LENGTHS]
        if isinstance(extra, dict):
            lengths += [(Record(record.path, record.line, extra), field) for field in LENGTHS]
        output = next((where.tokens(field) for where, field in lengths if where.values.get(field) is not None), 0)
        tools = values.get("tools")
        return _Turn(
            record,
            self._text(record),
            json.dumps(tools, ensure_ascii=False) if tools else "",
            output,
            record.time("delay") if values.get("delay") is not None else 0,
            record.time("timestamp") if values.get("timestamp") is not None else None,
        )

    def _text(self, record: Record) -> str:
        values = record.values
        self._other_media |= any(values.get(f"{kind}{s}") for kind in ("image", "audio", "video") for s in ("", "s"))
        given = (
            values.get("messages") if values.get("messages") is not None else values.get("texts", values.get("text"))
        )
        return "".join(self._pieces(record, given))

    def _pieces(self, record: Record, given: object) -> Iterator[str]:
        """All text in what OpenAI's messages, and AIPerf's lists of contents, may be."""
        if isinstance(given, str):
            yield given
        elif isinstance(given, list):
            for one in given:
                yield from self._pieces(record, one)
        elif isinstance(given, dict):
            self._other_media |= str(given.get("type", "text")) not in ("text", "input_text", "function")
            for field in ("content", "contents", "text"):
                if given.get(field) is not None:
                    yield from self._pieces(record, given[field])
            if given.get("tool_calls"):
                yield json.dumps(given["tool_calls"], ensure_ascii=False)
        elif given is not None:
            raise record.error("text", given, "text, or messages with a role and content")

    def _children(self, session: _Session) -> Iterator[tuple[str, str]]:
        """Whom a session spawns, and the field that says so."""
        values = session.record.values
        fields = [(session.record, "pre_session_spawns"), (session.record, "spawns")]
        fields += [(turn.record, field) for turn in session.turns for field in ("forks", "spawns")]
        if isinstance(values.get("rounds"), list):
            fields += [(plan, "spawns") for plan in self._plans(session.record)]
        for record, field in fields:
            for names, _, _ in _branches(record, field):
                for name in names:
                    yield name, field

    def _child(self, parent: _Session, name: str, field: str, above: tuple[str, ...]) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            line = f"{parent.record.path}:{parent.record.line}"
            raise WorkloadError(f"{line}: {field} is {name!r}, which no session is; {nearest(name, self._sessions)}")
        if name in above or len(above) > DEEPEST:
            through = ", ".join(repr(one) for one in above[above.index(name) + 1 :]) if name in above else "others"
            line = f"{session.record.path}:{session.record.line}"
            raise WorkloadError(f"{line}: session {name!r} spawns itself, through {through or 'itself'}")
        return session

    def _instance(
        self, session: _Session, waits: Sequence[Wait], said: array[int], above: tuple[str, ...]
    ) -> tuple[list[Row], list[str]]:
        """The rows of a session and of all that it spawns, and the names of those that end it."""
        number = self._begun[session.name] = self._begun.get(session.name, -1) + 1
        own = session.name if not number else f"{session.name}#{number}"
        above = (*above, session.name)
        if not session.turns:
            return self._rounds(session, waits, above)
        rows: list[Row] = []
        ends: list[str] = []
        joins: dict[int, list[str]] = {}
        isolated = session.record.values.get("context_mode") == ISOLATED
        said = said + characters(session.turns[0].tools + session.system)
        head = array("I", said)
        for place, turn in enumerate(session.turns):
            name = f"{own}:{place}"
            prompt = (head if isolated else said) + characters(turn.text)
            before = [wait._replace(delay=wait.delay + turn.delay) for wait in waits] if not place else []
            before += [Wait(one, turn.delay, field="turns") for one in joins.pop(place, ())]
            if place:
                before.append(Wait(f"{own}:{place - 1}", turn.delay, field="turns"))
            answer = self._unknown.answer(turn.output)
            rows.append(self._row(turn, own, name, prompt, answer, before))
            said = prompt + answer
            if not place:
                for child in _names(session.record, "pre_session_spawns"):
                    other = self._child(session, child, "pre_session_spawns", above)
                    rows += self._instance(other, [Wait(name, 0, True, "pre_session_spawns")], array("I"), above)[0]
            goes_on, forked = True, _branches(turn.record, "forks")
            for children, background, _ in forked:
                for child in children:
                    other = self._child(session, child, "forks", above)
                    more, ended = self._instance(other, [Wait(name, field="forks")], said, above)
                    rows += more
                    if not background:
                        goes_on = False
                        ends += ended
            for children, _, join_at in _branches(turn.record, "spawns"):
                for child in children:
                    other = self._child(session, child, "spawns", above)
                    more, ended = self._instance(other, [Wait(name, field="spawns")], array("I"), above)
                    rows += more
                    joins.setdefault(self._join(turn, place, join_at, len(session.turns)), []).extend(ended)
            if not goes_on:
                return rows, ends
        return rows, [f"{own}:{len(session.turns) - 1}", *ends]

    def _join(self, turn: _Turn, place: int, join_at: object, turns: int) -> int:
        if join_at is None:
            return place + 1
        if not isinstance(join_at, int) or not place < join_at < turns:
            raise turn.record.error("join_at", join_at, f"a later turn of the session, {place + 1} to {turns - 1}")
        return join_at

    def _rounds(self, session: _Session, waits: Sequence[Wait], above: tuple[str, ...]) -> tuple[list[Row], list[str]]:
        """An orchestrator's: each waits for all of the one before, and the think time."""
        record, rows = session.record, list[Row]()
        plans = self._plans(record)
        names = [wait.name for wait in waits]
        for plan in plans:
            where = plan if plan.values.get("think_time_ms") is not None else record
            think = where.time("think_time_ms") if where.values.get("think_time_ms") is not None else 0
            ends = []
            for child in _names(plan, "spawns"):
                other = self._child(session, child, "spawns", above)
                more, ended = self._instance(
                    other, [Wait(one, think, field="rounds") for one in names], array("I"), above
                )
                rows += more
                ends += ended
            names = ends
        return rows, names

    def _plans(self, record: Record) -> Sequence[Record]:
        """Where each round is described: the conversation itself so many times, or a list."""
        given = record.values.get("rounds")
        if isinstance(given, list) and all(isinstance(one, dict) for one in given):
            return [Record(record.path, record.line, one) for one in given]
        if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
            return [record] * (given or 1)
        raise record.error("rounds", given, "a number of rounds, or a list of objects with spawns")

    def _row(
        self, turn: _Turn, session: str, name: str, prompt: array[int], answer: array[int], waits: Sequence[Wait]
    ) -> Row:
        return Row(
            turn.record.line,
            (turn.delay if not waits else 0) if turn.time is None else turn.time,
            "ms",
            tokens_of(prompt),
            turn.output,
            session=session,
            hash_ids=self._blocks.path(prompt + answer, with_rest=True),
            hashed_output_tokens=turn.output,
            name=name,
            waits=waits,
        )


def _branches(record: Record, field: str) -> list[tuple[list[str], bool, object]]:
    """Sessions of each entry, whether in the background, and the turn that waits for them."""
    given = record.values.get(field) or []
    if not isinstance(given, list):
        raise record.error(field, given, "a list of session ids")
    found: list[tuple[list[str], bool, object]] = []
    for one in given:
        if isinstance(one, str):
            found.append(([one], False, None))
        elif isinstance(one, dict) and isinstance(one.get("child"), str):
            found.append(([str(one["child"])], one.get("background") is True, None))
        elif isinstance(one, dict) and isinstance(one.get("children"), list):
            found.append(([str(child) for child in one["children"]], False, one.get("join_at")))
        else:
            raise record.error(field, one, "a session id, or an object with child or children")
    return found


def _names(record: Record, field: str) -> list[str]:
    return [name for names, _, _ in _branches(record, field) for name in names]
