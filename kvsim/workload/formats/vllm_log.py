"""vLLM's own log with requests: ``--enable-log-requests``, and what older versions log unless told not to."""

from __future__ import annotations

import ast
import re
from array import array
from collections.abc import Collection, Iterable, Mapping

from kvsim.errors import WorkloadError
from kvsim.workload.formats.base import Row
from kvsim.workload.formats.textblocks import CHARACTERS_PER_TOKEN, GUESS, characters, tokens_of
from kvsim.workload.formats.tokenblocks import TokenBlocks
from kvsim.workload.loglines import EVENT, FIELDS
from kvsim.workload.records import MAX_TOKENS, Record
from kvsim.workload.times import DATE

BLOCK_TOKENS = 16
_LITERAL = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_PROMPT = re.compile(rf"\bprompt: ({_LITERAL}|None)", re.DOTALL)
_IDS = re.compile(r"\bprompt[_ ]token[_ ]ids: (\[[^\]]*\]|None)")
_MOST = re.compile(r"\bmax_tokens=(\d+|None)")
_OUTPUT = re.compile(rf"\boutput: ({_LITERAL}|None)", re.DOTALL)
_OUTPUT_IDS = re.compile(r"\boutput_token_ids: (\[[^\]]*\]|array\([^\[]*\[[^\]]*\]\)|None)")
_YEAR_NS, _LEAP = 366 * 86_400 * 1_000_000_000, 300 * 86_400 * 1_000_000_000
"""The log knows no year: a month that comes before the one before it is the next year's."""


class VllmLog:
    """``Received request ID: prompt: '...', params: SamplingParams(...), prompt_token_ids: [...]`` and its kin.

    From 0.11 on prompts stand in a line of their own, ``Request ID details:``, at the level of DEBUG. Prompts are their
    token ids where these are logged, else their text. Answers are as long as ``Generated response ID`` shows
    (``--enable-log-outputs``), else as ``max_tokens``, the most that was asked for.
    """

    ids_cover_prompt = False

    def __init__(self, hash_block_tokens: int | None) -> None:
        block = hash_block_tokens or BLOCK_TOKENS
        self.hash_block_tokens: int | None = block
        self.answers: Mapping[int, int] = {}
        self._known: dict[int, int] = {}
        self._tokens, self._texts = TokenBlocks(block), TokenBlocks(block * CHARACTERS_PER_TOKEN)
        self._details: dict[str, str] = {}
        self._line_of: dict[str, int] = {}
        self._rows = self._by_text = 0
        self._last_ns = self._years_ns = 0

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if self._by_text:
            notes.append(f"{self._by_text:,} of {self._rows:,} prompts are known by their text alone: {GUESS}")
        if (guessed := self._rows - len(self._known)) > 0:
            notes.append(
                f"{guessed:,} of {self._rows:,} answers are taken for as long as their max_tokens: the log does not "
                "have them (--enable-log-outputs)"
            )
        return tuple(notes)

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def rows(self, record: Record) -> Iterable[Row]:
        event, name, text = (str(record.value(field)) for field in ("event", "request_id", "text"))
        if event == EVENT["details"]:
            self._details[name] = text
            return ()
        if event == EVENT["generated"]:
            self._answered(name, text)
            return ()
        return (self._received(record, name, text, self._details.pop(name, "")),)

    def rest(self) -> Iterable[Row]:
        return ()

    def _received(self, record: Record, name: str, text: str, details: str) -> Row:
        prompt, hash_ids = self._prompt(record, f"{details} {text}" if details else text)
        found = _MOST.search(_PROMPT.sub("", text))
        most = 0 if found is None or found[1] == "None" else int(found[1])
        self._rows += 1
        self._line_of[name] = record.line
        return Row(record.line, self._time_ns(record), DATE, prompt, min(most, MAX_TOKENS), hash_ids=hash_ids)

    def _prompt(self, record: Record, text: str) -> tuple[int, list[int]]:
        """The prompt's tokens and the numbers of its blocks; those of text are below zero."""
        literal = _PROMPT.search(text)
        # The text may say anything, also what looks like ids.
        rest = text if literal is None else text[: literal.start()] + text[literal.end() :]
        ids = _IDS.search(rest)
        if ids is not None and ids[1] != "None":
            tokens = self._ids(record, ids[1])
            return len(tokens), self._tokens.path(tokens, with_rest=False)
        if literal is None or literal[1] == "None":
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            raise record.error(
                "prompt", shown, "a prompt or its token ids (from vLLM 0.11 on: VLLM_LOGGING_LEVEL=DEBUG)"
            )
        self._by_text += 1
        stream = characters(str(ast.literal_eval(literal[1])))
        return tokens_of(stream), [-1 - number for number in self._texts.path(stream, with_rest=False)]

    def _ids(self, record: Record, text: str) -> array[int]:
        try:
            return array("q", map(int, text[1:-1].split(","))) if text[1:-1].strip() else array("q")
        except (ValueError, OverflowError):
            raise record.error("prompt_token_ids", text, "a list of whole token ids") from None

    def _answered(self, name: str, text: str) -> None:
        """Book the length of an answer that is whole; completions have a number behind the id that answers may lack."""
        if text.lstrip().startswith("(streaming delta)"):
            return
        line = self._line_of.get(name, self._line_of.get(f"{name}-0"))
        ids, output = _OUTPUT_IDS.search(_OUTPUT.sub("", text)), _OUTPUT.search(text)
        if line is None:
            return
        if ids is not None and ids[1] != "None":
            inside = ids[1][ids[1].index("[") + 1 : ids[1].rindex("]")]
            self._known[line] = inside.count(",") + 1 if inside.strip() else 0
        elif output is not None and output[1] != "None":
            self._known[line] = tokens_of(characters(str(ast.literal_eval(output[1]))))
        self.answers = self._known

    def _time_ns(self, record: Record) -> int:
        time_ns = record.value("time_ns")
        if not isinstance(time_ns, int):
            raise WorkloadError(f"{record.path}:{record.line}: no time in front of the line; allowed: a log of vLLM's")
        if time_ns + self._years_ns < self._last_ns - _LEAP:
            self._years_ns += _YEAR_NS
        self._last_ns = time_ns + self._years_ns
        return self._last_ns
