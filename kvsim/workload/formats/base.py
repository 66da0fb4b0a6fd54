"""What a trace format is: how one record becomes one row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from kvsim.workload.records import Record
from kvsim.workload.times import DATE, DATE_FORM, date_ns


class Wait(NamedTuple):
    """What a row waits for: another one's end, or its sending."""

    name: str
    delay: int | float = 0
    """In the row's unit, from then on."""
    from_sent: bool = False
    field: str = "wait_for"
    """Where the row says so."""


class Row(NamedTuple):
    """One request as its trace gives it, nothing judged or converted yet."""

    line: int
    time: int | float
    """Where the row waits for others, the earliest that it may be sent."""
    unit: str | None
    """``s``, ``ms``, ``us``, ``ns``, ``date`` (whole nanoseconds since 1970), or ``None``: to be found out."""
    prompt_tokens: int
    output_tokens: int
    session: str | None = None
    hash_ids: Sequence[int | str | bytes] | None = None
    """``None``: this row has none."""
    contradiction: str = ""
    """Parts of the row that cannot be true together; empty where nothing is wrong."""
    doubt: str = ""
    """What a user should know about the row; empty where there is nothing."""
    follows: bool = False
    """Whether it waits for the row before it of the same session; ``time`` counts from the answer to that one then."""
    hashed_output_tokens: int = 0
    """How many tokens of the answer ``hash_ids`` goes on over, behind those of the prompt."""
    name: str | None = None
    """What other rows that wait for it call it."""
    waits: Sequence[Wait] = ()
    model: str | None = None
    """Which model it asks, where that was to be kept and the row says it."""


MODEL_FIELDS = ("model", "modelname", "modelid")
"""Names, less case and signs, of the field that says which model a row asks."""


def model_field(fields: Iterable[str]) -> str | None:
    """The one of ``fields`` that says which model a row asks."""
    plain = {"".join(filter(str.isalnum, field)).lower(): field for field in fields}
    return next((plain[name] for name in MODEL_FIELDS if name in plain), None)


def model_name(value: object) -> str | None:
    """The model that a row names; ``None``: none."""
    text = "" if value is None else str(value).strip()
    return text or None


class TableColumns(NamedTuple):
    """Where a table without hash ids keeps what its rows are made of: names of its header."""

    time: str
    unit: str | None
    """Unit of ``time``, as in ``Row``; ``None`` allows dates and numbers."""
    prompt_tokens: str
    output_tokens: str
    session: str | None = None
    no_session: Collection[str] = ("",)
    """What stands in ``session`` where a row has none."""
    total_tokens: str | None = None
    """A column that must be the sum of prompt and output tokens."""
    not_negative: str | None = None
    """A column that is only checked: a number that is not negative, or nothing."""
    one: str | None = None
    """A column that must be 1."""

    @property
    def needed(self) -> tuple[str, ...]:
        """What every table has; the others may be missing."""
        names = (self.time, self.prompt_tokens, self.output_tokens, self.total_tokens)
        return tuple(name for name in names if name is not None)

    def within(self, header: Collection[str]) -> TableColumns:
        """Without those of the others that ``header`` lacks."""

        def there(name: str | None) -> str | None:
            return name if name in header else None

        return self._replace(session=there(self.session), not_negative=there(self.not_negative), one=there(self.one))


class TraceFormat(Protocol):
    """A trace schema. One file and one line in the registry each, as :mod:`kvsim.workload.formats.mooncake`.

    ``hash_block_tokens`` is what the user asked for, ``None`` for the schema's own block.
    """

    hash_block_tokens: int | None
    """Tokens a hash id stands for; ``None``: no ids, or to be found out from them."""
    ids_cover_prompt: bool
    """Whether a row should have an id for every block of its prompt, the partial last one included."""

    def __init__(self, hash_block_tokens: int | None) -> None: ...

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        """Whether a file whose first rows have these fields is of this schema."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said about the file, once it is read."""

    @property
    def answers(self) -> Mapping[int, int]:
        """Tokens of answers that the file says behind their rows, by the rows' lines."""

    def rows(self, record: Record) -> Iterable[Row]:
        """The rows of a record. Raises ``WorkloadError`` with the place, the value and what is allowed."""

    def rest(self) -> Iterable[Row]:
        """Rows that could not be told before the last record was known."""


class OneRow(ABC):
    """A schema in which a record is a row."""

    answers: Mapping[int, int] = MappingProxyType({})

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``TraceFormat``."""
        return ()

    @abstractmethod
    def row(self, record: Record) -> Row:
        """The row of a record. Raises ``WorkloadError`` with the place, the value and what is allowed."""

    def rows(self, record: Record) -> Iterable[Row]:
        return (self.row(record),)

    def rest(self) -> Iterable[Row]:
        return ()


@runtime_checkable
class TabularFormat(Protocol):
    """A schema whose large CSV files may be read a column at a time (:mod:`kvsim.workload.columnar`).

    What ``row`` would refuse or remark on is left to it: such files are read row by row.
    """

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        """Where things are; ``None`` where this file must be read row by row."""


class Tabular(OneRow):
    """A schema that its columns tell all of, row by row and a column at a time."""

    COLUMNS: ClassVar[TableColumns]
    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens = hash_block_tokens

    @classmethod
    def matches(cls, fields: Collection[str]) -> bool:
        return set(cls.COLUMNS.needed) <= set(fields)

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        return self.COLUMNS.within(header) if self.matches(header) else None

    def row(self, record: Record) -> Row:
        columns, values = self.COLUMNS, record.values
        time = _date(record, columns.time) if columns.unit == DATE else record.time(columns.time)
        prompt, output = record.tokens(columns.prompt_tokens), record.tokens(columns.output_tokens)
        session = values.get(columns.session) if columns.session is not None else None
        return Row(
            record.line,
            time,
            columns.unit,
            prompt,
            output,
            str(session).strip() or None if session is not None else None,
            contradiction=_contradiction(record, columns, prompt + output),
        )


def _date(record: Record, field: str) -> int:
    value = record.value(field)
    try:
        return date_ns(str(value))
    except ValueError:
        raise record.error(field, value, DATE_FORM) from None


def _contradiction(record: Record, columns: TableColumns, parts: int) -> str:
    """What must hold of a row, and does not."""
    total, one, span = columns.total_tokens, columns.one, columns.not_negative
    if total is not None and (tokens := record.tokens(total)) != parts:
        return f"{total} is {tokens}, its parts make {parts}"
    if one is not None and one in record.values and (count := record.tokens(one)) != 1:
        return f"{one} is {count}: taken for one request"
    value = "" if span is None else str(record.values.get(span) or "").strip()
    return f"{span} is {value}, less than none" if value.startswith("-") else ""
