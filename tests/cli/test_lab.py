"""``kvsim lab``: the list, what it writes, and bad input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvsim.lab.registry import names


def test_the_list_names_every_lab(kvsim: Callable[..., Any]) -> None:
    found = kvsim("lab", "--list")
    listed = [line.split()[0] for line in found.out.splitlines() if not line.startswith(" ")]
    assert found.code == 0 and listed == list(names())


def test_a_lab_writes_its_files_and_ends_in_a_line(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("lab", "w03", "--preset", "smoke", "--quiet", "--out", tmp_path / "o")
    assert found.code == 0 and found.err == "" and found.out.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["w03.csv", "w03.json", "w03.png"]
    told = json.loads((tmp_path / "o" / "w03.json").read_text())
    assert told["conclusion"] + "\n" == found.out and told["preset"] == "smoke"
    again = kvsim("lab", "w03", "--preset", "smoke", "--quiet", "--no-plot", "--out", tmp_path / "p")
    assert again.out == found.out and len(list((tmp_path / "p").iterdir())) == 2


def test_the_trace_of_a_batch_has_the_parts_of_its_steps(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("lab", "w02", "--preset", "smoke", "--no-plot", "--out", tmp_path)
    assert found.code == 0 and "Beside published figures" in found.out and "NanoFlow" in found.out
    events = json.loads(gzip.decompress((tmp_path / "w02.trace.json.gz").read_bytes()))["traceEvents"]
    parts = [event for event in events if event["ph"] == "X" and event["pid"] == 3]
    by_name = {name: sum(event["dur"] for event in parts if event["name"] == name) for name in {"step", "attention"}}
    assert {event["name"] for event in parts} == {"step", "attention", "MLP", "all-reduce", "other"}
    row = json.loads((tmp_path / "w02.json").read_text())["rows"][0]
    assert by_name["attention"] / by_name["step"] == pytest.approx(row["attention_share"], rel=1e-3)
    assert any(event["name"].startswith("request ") for event in events)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("w1",), "there is no lab 'w1'; did you mean 'w01'?"),
        (("w17",), "there is no lab 'w17'; "),
        ((), "lab: LAB is missing; --list names them"),
        (("w03", "--list"), "lab: --list names all of them; leave out 'w03' or --list"),
        (("w03", "--preset", "smok"), "--preset is 'smok'; did you mean 'smoke'?"),
        (("w03", "--seed", "x"), "--seed"),
        (("w03", "--jobs", "0"), "--jobs"),
        (("w03", "--sead", "1"), "--sead"),
    ],
)
def test_bad_input_is_one_line(kvsim: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    found = kvsim("lab", *arguments)
    assert found.code == 2 and found.out == "" and said in found.err and found.err.count("\n") == 1


def test_files_of_others_stay(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "w03.csv").write_text("mine\n")
    found = kvsim("lab", "w03", "--out", tmp_path)
    assert found.code == 2 and "is no lab's" in found.err and (tmp_path / "w03.csv").read_text() == "mine\n"
    (tmp_path / "file").write_text("")
    assert kvsim("lab", "w03", "--out", tmp_path / "file").code == 2
