"""``trace stats`` and ``trace lint`` on the samples, and on traces with something to find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.content import content_path

SAMPLES = ("azure_sample.csv", "mooncake_sample.jsonl", "sharegpt_sample.jsonl", "generic_sample.csv")
ROW = '{{"timestamp": {time_ms}, "input_length": 1000, "output_length": 7, "hash_ids": [1, {own}]}}\n'
ROWS = "".join(ROW.format(time_ms=1000 * i, own=i + 2) for i in range(4))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Four requests a second apart over two blocks each, the first block always the same."""
    path = tmp_path / "four.jsonl"
    path.write_text(ROWS)
    return path


def test_stats(kvsim, trace: Path, empty: Path) -> None:
    code, out, err = kvsim("trace", "stats", trace, "--json", "stats.json")
    assert (code, err) == (0, "")
    figures = json.loads((empty / "stats.json").read_text())
    assert {key: figures[key] for key in ("requests", "span_s", "prompt_tokens", "output_tokens")} == {
        "requests": 4,
        "span_s": 3.0,
        "prompt_tokens": 4000,
        "output_tokens": 28,
    }
    assert figures["infinite_cache_hit_rate"] == 3 / 8
    assert figures["infinite_cache_hit_rate_full_blocks"] == 3 / 4
    assert figures["infinite_cache_hit_rate_tokens"] == 3 * 512 / 4000
    assert [line.split() for line in out.splitlines()[3:4]] == [["requests", "4"]]
    assert "infinite_cache_hit_rate              0.3750\n" in out


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_are_clean(kvsim, sample: str) -> None:
    path = content_path("trace", sample)
    assert kvsim("trace", "lint", path) == (0, f"{path}: clean\n", "")
    code, out, _ = kvsim("trace", "stats", path)
    assert code == 0 and f"format                               {sample.split('_')[0]}\n" in out


def test_lint_finds(kvsim, trace: Path, empty: Path) -> None:
    trace.write_text(ROWS.replace("[1, 3]", "[1]"))
    code, out, err = kvsim("trace", "lint", trace, "--json", "lint.json")
    assert (code, err) == (1, "")
    assert out.startswith(f"{trace}:2: error: few-hash-ids: ") and out.count("\n") == 1
    report = json.loads((empty / "lint.json").read_text())
    assert (report["errors"], report["warnings"]) == (1, 0)
    assert (report["findings"][0]["rule"], report["findings"][0]["line"]) == ("few-hash-ids", 2)


def test_a_forced_format(kvsim, trace: Path) -> None:
    code, out, _ = kvsim("trace", "stats", trace, "--workload-format", "generic")
    assert code == 0 and "format                               generic\n" in out
