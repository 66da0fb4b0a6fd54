"""Text from a terminal, a script or a web page as the commands that a shell would run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from json import JSONDecoder

from kvsim.errors import ConfigError

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_TYPESET = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\xa0": " ", "\u200b": None, "\ufeff": None})
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_CONTINUED = re.compile(r"\\[ \t]*\n(?:[ \t]*>[ \t]*(?=-))?")
"""The end of a line that goes on, with the prompt that a terminal puts before the next."""


@dataclass
class Command:
    """One command of a text."""

    words: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Variables of the text whose values stand in its words."""


def commands_of(text: str, *, has_comments: bool = True) -> list[Command]:
    """The commands of ``text``, without what becomes of their output; variables that it sets are filled in.

    ``has_comments``: what follows a ``#`` is one. Raises ``ConfigError`` where a quote is not closed.
    """
    plain = _FENCE.sub("", text.replace("\r\n", "\n").translate(_TYPESET))
    return _Reader(_CONTINUED.sub(" ", plain), has_comments).commands()


class _Reader:
    """One pass over the text."""

    def __init__(self, text: str, has_comments: bool) -> None:
        self._text, self._at = text, 0
        self._has_comments = has_comments
        self._variables: dict[str, str] = {}
        self._found = [Command()]
        self._word: str | None = None
        self._is_target = False
        """The next word is a file that output goes to."""

    def commands(self) -> list[Command]:
        while self._at < len(self._text):
            self._take(self._text[self._at])
        self._end_command()
        return [command for command in self._found if command.words]

    def _take(self, character: str) -> None:
        if character in " \t":
            self._at += 1
            self._end_word()
        elif character == "&" and self._text.startswith("&>", self._at):
            self._at += 1
        elif character in "\n;|&()":
            self._at += 1
            self._end_command()
        elif character in "<>":
            self._redirect()
        elif character == "#" and self._word is None and self._has_comments:
            end = self._text.find("\n", self._at)
            self._at = len(self._text) if end < 0 else end
        elif character in "'\"":
            self._quoted(character)
        elif character == "{" and (self._word or "=").endswith("=") and (json := self._bare_json()):
            self._add(json)
            self._at += len(json)
        elif character == "\\":
            self._add(self._text[self._at + 1 : self._at + 2])
            self._at += 2
        elif character == "$":
            self._variable(is_quoted=False)
        else:
            self._add(character)
            self._at += 1

    def _add(self, characters: str) -> None:
        self._word = (self._word or "") + characters

    def _redirect(self) -> None:
        if self._word is not None and self._word.isdecimal():
            self._word = None
        self._end_word()
        while self._at < len(self._text) and self._text[self._at] in "<>&|":
            self._at += 1
        self._is_target = True

    def _bare_json(self) -> str:
        """An object with its quotes, as lists of processes and logs show it; no shell would pass it on. Else empty."""
        try:
            _, end = JSONDecoder().raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            return ""
        return self._text[self._at : end]

    def _quoted(self, mark: str) -> None:
        start = self._at
        self._add("")
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] != mark:
            if mark == '"' and self._text[self._at] == "\\" and self._text[self._at + 1 : self._at + 2] in '$`"\\':
                self._add(self._text[self._at + 1 : self._at + 2])
                self._at += 2
            elif mark == '"' and self._text[self._at] == "$":
                self._variable(is_quoted=True)
            else:
                self._add(self._text[self._at])
                self._at += 1
        if self._at >= len(self._text):
            raise ConfigError(f"the quote before {self._text[start + 1 : start + 41]!r} is never closed")
        self._at += 1

    def _variable(self, is_quoted: bool) -> None:
        """A variable that the text has set, or with a value for when it is not; any other stays as it is written."""
        if self._text.startswith("$(", self._at):
            self._substitution()
            return
        found = _VARIABLE.match(self._text, self._at)
        if found is None:
            self._add("$")
            self._at += 1
            return
        self._at = found.end()
        name, default = found[1] or found[2], found[3]
        if name in self._variables:
            self._found[-1].used.add(name)
        value = self._variables.get(name, default)
        if value is None:
            self._add(found[0])
        elif is_quoted:
            self._add(value)
        else:
            self._split(value)

    def _split(self, value: str) -> None:
        """A value without quotes may be several words."""
        first, *others = value.split(" ")
        self._add(first)
        for word in others:
            self._end_word()
            if word:
                self._add(word)

    def _substitution(self) -> None:
        depth, start = 0, self._at
        while self._at < len(self._text):
            depth += {"(": 1, ")": -1}.get(self._text[self._at], 0)
            self._at += 1
            if depth == 0 and self._at > start + 1:
                break
        self._add(self._text[start : self._at])

    def _end_word(self) -> None:
        if self._word is not None and not self._is_target:
            dashes = re.match("[–—]", self._word)
            self._found[-1].words.append("--" + self._word[1:] if dashes else self._word)
        if self._word is not None:
            self._is_target = False
        self._word = None

    def _end_command(self) -> None:
        self._end_word()
        self._is_target = False
        words = self._found[-1].words
        assigned = words[1:] if words[:1] in (["export"], ["set"]) else words
        if assigned and all(ASSIGNMENT.match(word) for word in assigned):
            self._variables |= {name: value for name, _, value in (word.partition("=") for word in assigned)}
        self._found.append(Command())
