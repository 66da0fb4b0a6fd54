"""Reading YAML that a person wrote: every fault is one line that says where it is."""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kvsim.errors import ConfigError

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2 (``1e3`` is a number, ``1:30`` and dates are text) and no duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.deep_construct = True  # a mapping that contains itself is then refused rather than built

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first_lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = None if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if key is None or not isinstance(key, Hashable):
                continue
            if key in first_lines:
                problem = f"duplicate key {key!r}, first given on line {first_lines[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            first_lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(str(self.construct_scalar(node)).replace("_", ""))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _TIMESTAMP)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
_Loader.add_constructor(_INT, _Loader.construct_decimal)


class _TrustedLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Ten times as fast where PyYAML has its parser in C; numbers as in ``_Loader``, faults unexplained."""


_TrustedLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse_trusted(text: str) -> dict[str, Any]:
    """The mapping of a YAML file that comes with kvsim."""
    found: dict[str, Any] = yaml.load(text, Loader=_TrustedLoader)
    return found


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file ``path``; empty for an empty file. Raises ``ConfigError``."""
    where = named(path)
    try:
        text = _bytes_of(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{where}: is a folder; a YAML file is wanted") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: is not UTF-8 text (byte {error.start}: {error.reason})") from None
    tree = parse(text, where)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: holds {kind(tree)}; a mapping of sections is wanted")
    return tree


_READ_ONCE: dict[tuple[int, int], bytes] = {}
"""What pipes gave, by device and inode."""


def _bytes_of(path: Path) -> bytes:
    """What a file holds. A pipe gives it once, and a configuration is read several times: what it gave is kept."""
    found = path.stat()
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        return path.read_bytes()
    key = found.st_dev, found.st_ino
    if key not in _READ_ONCE:
        _READ_ONCE[key] = path.read_bytes()
    return _READ_ONCE[key]


def parse(text: str, where: str) -> Any:
    """The value that the YAML ``text`` stands for; ``where`` begins the message of a ``ConfigError``."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: invalid YAML: {_one_line(error.problem or error.context)}") from None
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{where}, line {line_number}: invalid YAML: {_one_line(error.reason)}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{where}: invalid YAML: {_one_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{where}: invalid YAML: nested too deeply") from None


def named(path: Path) -> str:
    """``path`` as it may stand in a one-line message: as given, quoted where a character of it could break the line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def kind(value: object) -> str:
    """What a YAML value is, in words: ``a list``, ``text``, ..."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def shown(value: object) -> str:
    """``value`` as it may stand in a one-line message."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
