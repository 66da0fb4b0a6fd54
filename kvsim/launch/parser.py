"""The words behind a server's name, read as its own parser reads them.

Source: vLLM's ``FlexibleArgumentParser``: underscores for dashes, ``--config.key value``, ``-O3``, beginnings of names.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NoReturn

from kvsim.errors import ConfigError
from kvsim.launch.flags import Engine, Flag, flags_of
from kvsim.launch.values import converter, size

COMMANDS: dict[Engine, str] = {"vllm": "vllm serve", "sglang": "sglang.launch_server"}
MOST_NAMED = 4
_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")


def parse(engine: Engine, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Values by the first name of their flag, only those given, and the words that belong to no flag.

    Raises ``ConfigError``: a flag that is unknown, a value that is missing or of the wrong kind.
    """
    plain = [_resolved(engine, word) for word in _collected(_dashed(engine, words))]
    found, rest = _parser(engine).parse_known_args(plain)
    rest = [word for word in rest if word != "--"]
    for word in rest:
        if word.startswith("-") and word != "-":
            raise _unknown(engine, word)
    return vars(found), rest


def _dashed(engine: Engine, words: Sequence[str]) -> list[str]:
    """Names of flags with dashes for underscores, and ``-O3`` as what it stands for."""
    found = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            stem, dot, keys = name.partition(".")
            found.append(stem.replace("_", "-") + dot + keys + equals + value)
        elif engine == "vllm" and word.startswith("-O") and word != "-O":
            found += ["--optimization-level", word[2:].removeprefix("=")]
        else:
            found.append("--optimization-level" if engine == "vllm" and word == "-O" else word)
    return found


def _collected(words: Sequence[str]) -> list[str]:
    """``--config.a.b value`` as one ``--config '{"a": {"b": value}}'`` at the end."""
    found: list[str] = []
    trees: dict[str, dict[str, Any]] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not name.startswith("-") or "." not in name or _NUMBER.match(name) or " " in name:
            found.append(word)
            continue
        if not equals:
            value = next(rest, "")
        stem, *keys = name.removesuffix("+").split(".")
        _put(trees.setdefault(stem, {}), keys, value.split(",") if name.endswith("+") else _loose(value))
    for stem, tree in trees.items():
        found += [stem, json.dumps(tree)]
    return found


def _loose(text: str) -> Any:
    """JSON where it is, else a size where it is, else text."""
    for read in (json.loads, size):
        try:
            return read(text)
        except (ValueError, RecursionError, argparse.ArgumentTypeError):
            continue
    return text


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *path, last = keys
    for key in path:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    own = tree.get(last)
    if isinstance(own, list) and isinstance(value, list):
        value = own + value
    if isinstance(own, dict) and isinstance(value, dict):
        for key, below in value.items():
            _put(own, [key], below)
    else:
        tree[last] = value


def _resolved(engine: Engine, word: str) -> str:
    """The whole name where a beginning of it is given that no other present one has."""
    if not word.startswith("--") or word == "--":
        return word
    name, equals, value = word.partition("=")
    known = _spellings(engine)
    if word in known or name in known or " " in name:
        return word
    longer = [full for full, flag in known.items() if full.startswith(name) and not flag.is_gone]
    if len(longer) > 1:
        some = ", ".join(sorted(longer)[:MOST_NAMED]) + ("" if len(longer) <= MOST_NAMED else ", ...")
        raise ConfigError(f"{COMMANDS[engine]}: '{name[:60]}' may be one of {some}: write it out")
    if not longer:
        raise _unknown(engine, name)
    return longer[0] + equals + value


def _unknown(engine: Engine, word: str) -> ConfigError:
    name = word.partition("=")[0][:60]
    close = difflib.get_close_matches(name, _spellings(engine), n=1)
    hint = f"did you mean '{close[0]}'?" if close else "docs/launch.md has those that are known"
    return ConfigError(f"{COMMANDS[engine]}: unknown flag '{name}'; {hint}")


@cache
def _spellings(engine: Engine) -> dict[str, Flag]:
    return {name: flag for flag in flags_of(engine) for name in flag.spellings}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message.removeprefix('argument ')}")


@cache
def _parser(engine: Engine) -> _Parser:
    parser = _Parser(COMMANDS[engine], add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for flag in flags_of(engine):
        parser.add_argument(*flag.names, dest=flag.name, **_options(flag))
    return parser


def _options(flag: Flag) -> dict[str, Any]:
    kind = flag.kind
    if kind.base == "flag":
        return {"action": argparse.BooleanOptionalAction}
    if kind.base == "switch":
        return {"action": "store_true"}
    options: dict[str, Any] = {"type": converter(kind, flag.role == "simulated")}
    if kind.many == "&":
        return options | {"action": "append"}
    if kind.many == "~":
        return options | {"nargs": "?", "const": True}
    return options | ({"nargs": kind.many} if kind.many else {})


def words_of(mapping: Iterable[tuple[str, Any]], engine: Engine) -> list[str]:
    """The words that a file's arguments stand for; those that are null, or switched off without a twin, for none."""
    known, words = _spellings(engine), list[str]()
    for key, value in mapping:
        name = "--" + str(key).replace("_", "-")
        if isinstance(value, bool):
            off = "--no-" + name.removeprefix("--")
            words += [name] if value else [off] * (off in known)
        elif isinstance(value, list):
            words += [name, *map(str, value)] if value else []
        elif value is not None:
            words += [name, json.dumps(value) if isinstance(value, dict) else str(value)]
    return words
