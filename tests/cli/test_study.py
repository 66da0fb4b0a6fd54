"""``kvsim study``: the list, what it writes, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY

from kvsim.experiments.registry import names

AZURE = str(REPOSITORY / "trace" / "azure_sample.csv")
FEW = ("--preset", "smoke", "--replications", "2", "--set", "studies.max_requests=100", "--quiet", "--jobs", "1")


def test_the_list_names_every_study(kvsim: Callable[..., Any]) -> None:
    found = kvsim("study", "--list")
    assert found.code == 0
    listed = [line.split()[0] for line in found.out.splitlines() if not line.startswith(" ")]
    assert listed == [*names(), "run_all"]


def test_a_study_writes_its_three_files_and_ends_in_a_line(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("study", "transfer_strategies", *FEW, "--out", tmp_path / "o")
    assert found.code == 0 and found.err == ""
    assert found.out.count("\n") == 1 and found.out.startswith("mean TTFT against the configured transfer: ")
    files = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert files == ["transfer_strategies.csv", "transfer_strategies.json", "transfer_strategies.png"]
    told = json.loads((tmp_path / "o" / "transfer_strategies.json").read_text())
    assert told["conclusion"] + "\n" == found.out and told["answer"]["replications"] == 2
    again = kvsim("study", "transfer_strategies", *FEW, "--no-plot", "--out", tmp_path / "p")
    assert again.out == found.out and len(list((tmp_path / "p").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("study",), "study: NAME is missing; --list names them"),
        (("study", "pd_ration"), "there is no study 'pd_ration'; did you mean 'pd_ratio'?"),
        (("study", "pd_ratio", "--preset", "smok"), "unknown preset 'smok'"),
        (("study", "prefix_caching", "--workload", "chat"), "study prefix_caching draws its own requests"),
        (("study", "pd_ratio", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (
            ("study", "eic_sizing", "--preset", "smoke", "--workload", AZURE, "--quiet"),
            "study eic: too few requests (40; ",
        ),
        (("study", "pd_ratio", "--replications", "0"), "allowed: a whole number >= 2"),
        (("study", "pd_ratio", "--set", "slo.tft_ms=1"), "slo.tft_ms"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    kvsim: Callable[..., Any], empty: Path, arguments: tuple[str, ...], said: str
) -> None:
    found = kvsim(*arguments)
    assert found.code == 2 and found.out == ""
    assert said in found.err and found.err.count("\n") == 1
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("pd_ratio.json", "no JSON of kvsim's"), ("pd_ratio.csv", "is no study's"), ("pd_ratio.png", "PNG")],
)
def test_other_files_of_these_names_are_left(kvsim: Callable[..., Any], empty: Path, name: str, said: str) -> None:
    (empty / name).write_text("mine\n")
    found = kvsim("study", "pd_ratio", "--out", ".")
    assert found.code == 2 and said in found.err and found.err.count("\n") == 1
    assert (empty / name).read_text() == "mine\n"


def test_all_of_them_are_told_apart_by_their_names(
    kvsim: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsim.experiments.registry.names", lambda: ("prefix_caching", "transfer_strategies"))
    found = kvsim("study", "run_all", *FEW, "--no-plot", "--workload", "chat", "--out", tmp_path / "o")
    # One that cannot take other requests leaves the other its answer.
    assert found.code == 2 and found.out.startswith("transfer_strategies: mean TTFT") and found.out.count("\n") == 1
    assert found.err.startswith("kvsim: error: prefix_caching: study prefix_caching draws its own requests")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "transfer_strategies.csv",
        "transfer_strategies.json",
    ]
