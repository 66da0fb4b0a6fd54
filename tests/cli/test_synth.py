"""``trace synth``: workloads in one word, hit rates to order, agents with sub-agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.cli import main
from kvsim.workload.read import read_trace


def synth(path: Path, *words: str) -> int:
    return main(["trace", "synth", *words, "-o", str(path)])


def test_a_hit_rate_to_order(tmp_path) -> None:
    assert synth(tmp_path / "t.jsonl", "in=2000,out=300,hit=0.6,prefixes=10", "--requests", "800") == 0
    read = read_trace(tmp_path / "t.jsonl")
    assert len(read) == 800 and read.info.infinite_cache_hit_rate_tokens == pytest.approx(0.6, abs=0.01)


def test_agents_with_sub_agents_are_a_graph(tmp_path) -> None:
    words = ("agent", "--requests", "200", "--rate", "3", "--spawn-share", "0.3", "--subagents", "2")
    assert synth(tmp_path / "t.jsonl", *words) == 0
    read = read_trace(tmp_path / "t.jsonl")
    waits = read.graph.offsets[1:] - read.graph.offsets[:-1]
    assert read.info.format == "agentic_mooncake" and len(read) == 200 and waits.max() == 3


def test_lengths_of_sharegpt(tmp_path) -> None:
    assert synth(tmp_path / "t.csv", "sharegpt", "--requests", "2000", "--rate", "5") == 0
    assert read_trace(tmp_path / "t.csv").prompt_tokens.mean() == pytest.approx(217, rel=0.06)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shargpt",), "unknown kind 'shargpt'; did you mean 'sharegpt'?"),
        (("in=3",), "workload 'in=3' has no out"),
        (("chat", "--spawn-share", "0.1"), "--spawn-share goes with agent, not with chat"),
        (("agent", "--spawn-share", "3"), "allowed: 1 or more, after a share from 0 to 1"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, capsys, words: tuple[str, ...], message: str) -> None:
    assert synth(tmp_path / "t.jsonl", *words) == 2
    assert message in capsys.readouterr().err
