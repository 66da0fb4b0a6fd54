"""Any table of requests with the usual column names. Case, spaces, ``_`` and ``-`` in them do not matter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kvsim.errors import WorkloadError
from kvsim.workload.formats.base import OneRow, Row, TableColumns
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record
from kvsim.workload.times import DATE, DATE_FORM, date_ns

# The first name of a list that a row has is the one that is read.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "arrival time": (
        *("arrivaltime", "arrivaltimestamp", "arrival", "arrivedat", "timestamp", "time", "requesttime", "starttime"),
        *("requesttimestamp", "submittime", "submittedat", "sendtime", "sentat", "enqueuetime", "requestarrivaltime"),
        *("ts", "t", "created", "createdat", "createdtime", "date", "datetime", "when"),
    ),
    "prompt tokens": (
        *("prompttokens", "promptlength", "promptlen", "promptsize", "numprompttokens", "prompttoks"),
        *("promptntokens", "nprompttokens", "prompttokencount", "prompttokenslen", "inputtokencount", "ninputtokens"),
        *("inputseqlen", "inputsequencelength", "totalinputtokens", "querytokens", "querylength", "prefilllength"),
        *("inputtokens", "inputlength", "inputlen", "inputsize", "numinputtokens", "inputtoks", "isl"),
        *("contexttokens", "contextlength", "requesttokens", "prefilltokens", "numprefilltokens", "prompt", "input"),
    ),
    "output tokens": (
        *("noutputtokens", "outputtokencount", "completiontokencount", "outputseqlen", "outputsequencelength"),
        *("completionlength", "completionlen", "numcompletiontokens", "numgeneratedtokens", "numresponsetokens"),
        *("answertokens", "replytokens", "decodelength", "decodelen", "generatedlength", "maxtokens"),
        *("outputtokens", "outputlength", "outputlen", "outputsize", "numoutputtokens", "outputtoks", "osl"),
        *("responsetokens", "responselength", "generatedtokens", "completiontokens", "decodetokens"),
        *("numdecodetokens", "tokensize", "generationlength", "output", "response", "generated", "completion"),
    ),
    "session id": (
        *("sessionid", "session", "conversationid", "conversation", "chatid", "dialogid", "dialogueid", "threadid"),
        *("userid", "user"),
    ),
    "hash ids": (
        *("hashids", "hashes", "blockhashes", "blockhashids", "blockids", "blocks", "prefixhashes", "prefixids"),
    ),
}
REQUIRED = ("arrival time", "prompt tokens", "output tokens")
UNIT_SUFFIXES = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds"), "ns"),
}
NO_SESSION = ("", "-1", "None", "null", "nan")

Columns = Mapping[str, tuple[str, str | None]]
"""Meaning to the field's own name and, for times, the unit that the name says."""


class Generic(OneRow):
    """A CSV or JSON table with synonyms of arrival time, prompt and output tokens, session and hash ids.

    A unit at the end of the time column's name (``arrival_time_ms``) is believed.
    """

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens = hash_block_tokens
        self._known: dict[tuple[str, ...], Columns] = {}

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        columns = _columns(fields)
        return all(meaning in columns for meaning in REQUIRED)

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        found = _columns(header)
        if "hash ids" in found or not all(meaning in found for meaning in REQUIRED):
            return None
        (time, unit), (prompt, _), (output, _) = (found[meaning] for meaning in REQUIRED)
        return TableColumns(time, unit, prompt, output, found.get("session id", (None,))[0], NO_SESSION)

    def row(self, record: Record) -> Row:
        fields = tuple(record.values)
        columns = self._known.get(fields)
        if columns is None:
            columns = self._known[fields] = _required(record, _columns(fields))
        time, unit = _time(record, *columns["arrival time"])
        return Row(
            record.line,
            time,
            unit,
            record.tokens(columns["prompt tokens"][0]),
            record.tokens(columns["output tokens"][0]),
            _session(record, columns),
            _hash_ids(record, columns),
        )


def has_time(fields: Collection[str]) -> bool:
    """Whether one of the fields would be taken for the arrival time."""
    return "arrival time" in _columns(fields)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _columns(fields: Collection[str]) -> Columns:
    plain = {_plain(field): field for field in fields}
    found: dict[str, tuple[str, str | None]] = {}
    for meaning, names in SYNONYMS.items():
        for name in names:
            if name in plain:
                found[meaning] = (plain[name], None)
                break
    for field in fields:
        stem, _, suffix = field.strip().lower().replace("-", "_").replace(" ", "_").rpartition("_")
        unit = UNIT_SUFFIXES.get(suffix.strip("()"))
        if unit and _plain(stem) in SYNONYMS["arrival time"]:
            found["arrival time"] = (field, unit)
    return found


def _required(record: Record, columns: Columns) -> Columns:
    for meaning in REQUIRED:
        if meaning not in columns:
            fields = ", ".join(record.values)
            shown = fields if len(fields) <= 100 else f"{fields[:97]}..."
            raise WorkloadError(
                f"{record.path}:{record.line}: no column for the {meaning} among: {shown!r}; allowed: "
                f"{', '.join(SYNONYMS[meaning][:4])} or another usual name"
            )
    return columns


def _time(record: Record, field: str, unit: str | None) -> tuple[int | float, str | None]:
    value = record.value(field)
    if not isinstance(value, str) or value.count("-") < 2:
        return record.time(field), unit
    try:
        return date_ns(value), DATE
    except ValueError:
        raise record.error(field, value, f"a number, or {DATE_FORM}") from None


def _session(record: Record, columns: Columns) -> str | None:
    if "session id" not in columns:
        return None
    session = str(record.value(columns["session id"][0])).strip()
    return None if session in NO_SESSION else session


def _hash_ids(record: Record, columns: Columns) -> list[int | str] | None:
    if "hash ids" not in columns:
        return None
    field = columns["hash ids"][0]
    return None if record.value(field) is None else list(hash_list(record, field))
