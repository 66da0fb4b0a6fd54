"""Reading what other programs wrote; what cannot be read raises a ``ConfigError`` of one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from kvsim.errors import ConfigError


def read_text(path: Path) -> str:
    """UTF-8, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name}: not UTF-8 text") from None


def read_json(path: Path) -> Any:
    """The document of a file."""
    text = read_text(path)
    if not text.strip():
        raise ConfigError(f"{path.name}: is empty")
    return parsed_json(text, path.name)


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """File and line, and the document that stands there; empty lines are passed over."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            where = f"{path.name}: line {number}"
            yield where, parsed_json(line, where)


def parsed_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> Any:
    """The document of a file."""
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path.name}: not readable as YAML: {str(error).splitlines()[0]}") from None


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Each row with the line it ends on; ``columns`` have to be there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path.name}: no column '{missing[0]}'; wanted are {', '.join(columns)}")
            for row in reader:
                yield reader.line_num, row
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name}: not readable as CSV: {error}") from None
