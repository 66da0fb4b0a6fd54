"""Settings and files that nobody would write: random values for random keys, and damaged copies of good files.

    python tests/matrix/fuzz.py [--sets 1000] [--files 300] [--seed N] [--jobs N] [--json OUT]

Knows the names of the keys in config.yaml and nothing of what they mean. A run ends with its report or one line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.extend(str(folder) for folder in (Path(__file__).resolve().parent, *Path(__file__).resolve().parents[1:3]))
from processes import ROOT, report, run_all

MODES = ((), ("--cluster",), ("--pd",))
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 16, 100, 1000, 10**5, 10**9, 10**18, 0.5, 1e-9, -0.0, 1e300, 0.999, 1.5),
    *("", "nosuch", "lru", "none", "nan", "inf", "true", "1e3", "é", "[1", "{", "a b"),
    *(None, True, False, [], [0], [1, 3], [1, 1, 1], ["dram"], ["dram", "ssd"], ["ssd", "dram", "ssd"], {}, {"x": 1}),
)


SCALES = (0, 1e-6, 0.01, 0.3, 0.7, 1.3, 3, 30, 1e3, 1e6, -1)


def keys_of(text: str) -> list[tuple[str, Any, list[str]]]:
    """Every key of a configuration, its default, and the words of its comment: the right ones are among them."""
    words = {}
    above: list[str] = []
    for line in text.splitlines():
        found = re.match(r"( *)([\w]+):(.*)", line)
        if found:
            above = [*above[: len(found[1]) // 2], found[2]]
            words[".".join(above)] = re.findall(r"[a-z][a-z0-9_-]+", found[3].partition("#")[2])
    return [(path, default, words.get(path) or ["none"]) for path, default in leaves(yaml.safe_load(text))]


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the configuration with its default."""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def any_value(default: Any, words: list[str], draw: random.Random) -> Any:
    """Mostly something of the default's kind, else anything at all."""
    if draw.random() < 0.15:
        return draw.choice(VALUES)
    match default:
        case bool():
            return not default
        case int() | float():
            return type(default)(default * draw.choice(SCALES))
        case None:
            return draw.choice((1, 2, 5, 100, 5000, 0.5, 1e6, [1, 2], draw.choice(words)))
        case str():
            return draw.choice(words)
        case list():
            return [any_value(value, words, draw) for value in default[: draw.randrange(len(default) + 1)]]
    return draw.choice(VALUES)


def settings(number: int, draw: random.Random) -> dict[str, list[str]]:
    """Runs with one to four random keys set."""
    keys = [key for key in keys_of((ROOT / "config.yaml").read_text()) if not key[0].startswith("presets")]
    commands = {}
    for at in range(number):
        chosen = draw.sample(keys, draw.choice((1, 1, 2, 3, 4)))
        sets = [
            f"{key}={json.dumps(any_value(default, about, draw), ensure_ascii=False)}" for key, default, about in chosen
        ]
        words = [word for assignment in sets for word in ("--set", assignment)]
        studies = () if draw.random() < 0.1 else ("--no-studies",)
        mode = draw.choice(MODES)
        policy = ("--policy", "lru") if mode != ("--pd",) and draw.random() < 0.7 else ()
        commands[f"set {at}: {' '.join((*mode, *sets))}"] = [*mode, "--preset", "smoke", *studies, *policy, *words]
    return commands


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """The same file after an accident."""
    lines = whole.split(b"\n")
    match draw.randrange(9):
        case 0:
            return whole[: draw.randrange(len(whole))]
        case 1:
            at = draw.randrange(len(whole))
            return whole[:at] + bytes(draw.randrange(256) for _ in range(draw.randrange(1, 20))) + whole[at + 1 :]
        case 2:
            draw.shuffle(lines)
        case 3:
            lines[draw.randrange(len(lines))] = b""
        case 4:
            at = draw.randrange(len(lines))
            lines[at] = lines[at] * 3
        case 5:
            digits = [at for at, byte in enumerate(whole) if 48 <= byte <= 57]
            at = draw.choice(digits or [0])
            return whole[:at] + draw.choice((b"-", b"999999999999", b"0.5e", b"nan", b" ")) + whole[at + 1 :]
        case 6:
            return whole.replace(draw.choice((b",", b":", b'"', b"\n")), draw.choice((b";", b"\t", b"", b"\r\n")), 50)
        case 7:
            return whole.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-8-sig", "latin-1")), "replace")
        case 8:
            return whole * 2
    return b"\n".join(lines)


def files(number: int, folder: Path, draw: random.Random) -> dict[str, list[str]]:
    """Runs on damaged traces, configurations and profiles."""
    traces = sorted((ROOT / "trace").glob("*_sample.*"))
    others = [ROOT / "config.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]
    commands = {}
    for at in range(number):
        source = draw.choice(traces if draw.random() < 0.75 else others)
        path = folder / f"{at}_{source.name}"
        path.write_bytes(damaged(source.read_bytes(), draw))
        flag = (
            "--workload-trace"
            if source in traces
            else "--config"
            if source.name == "config.yaml"
            else "--calibration-profile"
        )
        mode = draw.choice(MODES)
        policy = () if mode == ("--pd",) else ("--policy", "lru")
        command = [*mode, "--preset", "smoke", "--no-studies", *policy, flag, str(path)]
        commands[f"file {at}: {' '.join(mode)} {source.name}"] = command
    return commands


def main() -> int:
    """Run them all; 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        commands = settings(asked.sets, draw) | files(asked.files, folder, draw)
        return report(run_all(commands, folder, asked.jobs), asked.json)


if __name__ == "__main__":
    sys.exit(main())
