"""The flags of a server: their names, what values they take, and what each is to a simulation.

A table is a text file. Under a heading in brackets, which is the role of all that follow, each line is one flag:

    --name --other-name -short KIND =DEFAULT : words

``KIND`` is ``flag`` (with a ``--no-`` twin), ``switch``, or what its value is: ``text``, ``int``, ``float``, ``size``
(4k, 4K), ``si`` (4k, 4Ki), ``length`` (a size or auto), ``json``, ``config`` (json of such sizes), ``json/text``,
``ids`` or, in braces, the values that are allowed (``folded``: in any case). Behind it ``?`` allows None, ``+`` takes
one or more, ``*`` any number, ``~`` none or one, ``&`` adds up. ``DEFAULT``, or several with a bar between: values at
which nothing changes. ``words`` say what a simulated flag sets here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Engine = Literal["vllm", "sglang"]
VERSIONS: dict[Engine, str] = {"vllm": "vLLM 0.32", "sglang": "SGLang 0.5.23"}
"""Whose flags the tables have."""
NOT_SIMULATED = "not simulated: "
_KIND = re.compile(
    r"(folded)?(flag|switch|text|int|float|size|si|length|json/text|json|config|ids)?(?:\{(.*)\})?(\?)?([+*~&])?"
)


@dataclass(frozen=True)
class Kind:
    """What a flag takes; the module's docstring has the words."""

    base: str
    choices: tuple[str, ...] = ()
    is_folded: bool = False
    takes_none: bool = False
    many: str = ""

    @property
    def takes_value(self) -> bool:
        return self.base not in ("flag", "switch")


@dataclass(frozen=True)
class Flag:
    """One flag, by all its names; the first is the one it goes by."""

    names: tuple[str, ...]
    kind: Kind
    role: str
    """``simulated``, ``kernels``, ``unchanged``, or ``not simulated: `` and what is not."""
    is_gone: bool
    """Only older versions of the server have it."""
    neutral: tuple[str, ...] = ()
    """Values at which nothing changes that is not simulated; for a simulated flag none: all of them."""
    words: str = ""

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def argument(self) -> str:
        """The server's own name of the value."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names of the flag, and those that switch it off."""
        if self.kind.base != "flag":
            return self.names
        return self.names + tuple("--no-" + name.removeprefix("--") for name in self.names if name.startswith("--"))


@cache
def flags_of(engine: Engine) -> tuple[Flag, ...]:
    """All flags of that server."""
    text = Path(__file__).with_name(f"{engine}.flags").read_text("utf-8")
    found, role, is_gone = [], "", False
    for line in text.splitlines():
        if line.startswith("["):
            heading = line.strip("[]")
            is_gone = heading.startswith("gone")
            role = heading.removeprefix("gone").removeprefix(", ").removeprefix("still ") or "unchanged"
        elif line and not line.startswith("#"):
            found.append(_flag(line, role, is_gone))
    return tuple(found)


def _flag(line: str, role: str, is_gone: bool) -> Flag:
    declared, _, words = line.partition(" : ")
    *names, kind = [word for word in declared.split() if not word.startswith("=")]
    neutral = [word[1:] for word in declared.split() if word.startswith("=")]
    found = _KIND.fullmatch(kind)
    assert found is not None, line
    folded, base, choices, none, many = found.groups()
    return Flag(
        tuple(names),
        Kind(base or "text", tuple(choices.split(",")) if choices else (), bool(folded), bool(none), many or ""),
        role,
        is_gone,
        tuple(neutral[0].split("|")) if neutral else (),
        words,
    )
