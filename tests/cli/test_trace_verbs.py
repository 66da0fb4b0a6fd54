"""``trace stats`` and ``trace lint`` on the samples, and on traces with something to find."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kvsim.cli.options import READING
from kvsim.content import content_path
from kvsim.workload.reading import FLAGS, Reading

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


@pytest.fixture
def in_seconds(tmp_path: Path) -> Path:
    """Forty requests a quarter of a second apart, in a format that means milliseconds."""
    path = tmp_path / "seconds.jsonl"
    path.write_text("".join(ROW.format(time_ms=i / 4, own=i + 2) for i in range(40)))
    return path


def test_a_suspected_unit_is_named_and_can_be_given(kvsim, in_seconds: Path, empty: Path) -> None:
    code, out, _ = kvsim("trace", "lint", in_seconds)
    assert code == 1
    assert "40 requests in 0.00975 s: is the time unit too fine? --workload-time-unit s makes it 9.75 s" in out
    assert "time-unit" not in kvsim("trace", "lint", in_seconds, "--workload-time-unit", "s").out
    out = kvsim("trace", "stats", in_seconds, "--workload-time-unit", "s", "--json", "s.json").out
    assert "span_s                               9.75\n" in out
    assert json.loads((empty / "s.json").read_text())["rate_per_s"] == 40 / 9.75


def test_every_flag_of_reading_has_its_effect(kvsim, in_seconds: Path, empty: Path) -> None:
    def stats(*flags: str) -> dict[str, Any]:
        assert kvsim("trace", "stats", in_seconds, "--json", "s.json", *flags).code == 0
        figures: dict[str, Any] = json.loads((empty / "s.json").read_text())
        return figures

    assert stats("--workload-limit", "8")["requests"] == 8
    assert stats("--workload-time-unit", "s", "--workload-arrival-scale", "2")["span_s"] == 19.5
    assert stats("--workload-hash-tokens-per-block", "500")["hash_block_tokens"] == 500
    in_seconds.write_text(in_seconds.read_text() + ROW.format(time_ms=9, own=9).replace('length": 7', 'length": 0'))
    assert [stats(*flags)["requests"] for flags in ((), ("--workload-include-failed",))] == [40, 41]
    assert "no field 'chat_id'" in kvsim("trace", "lint", in_seconds, "--workload-format", "bailian").out
    in_seconds.write_text(ROW.format(time_ms=0, own=2) * 30 + ROW.format(time_ms=30_000, own=3) * 30)
    coarse = [kvsim("trace", "lint", in_seconds, *flags).out for flags in ((), ("--workload-dequantise",))]
    assert "coarse-times" in coarse[0] and "coarse-times" not in coarse[1]
    in_seconds.write_text(ROWS.replace("[1, 3]", "[1]"))
    strict = kvsim("trace", "stats", in_seconds, "--strict-workload-validation")
    assert strict.code == 2 and "few-hash-ids" in strict.err


READERS = (
    *(("trace", "lint"), ("trace", "stats"), ("hits",), ("learn", "train"), ("learn", "evaluate")),
    *(("validate", "run"), ("calibrate", "requests"), ()),
)


@pytest.mark.parametrize("verb", READERS, ids=" ".join)
def test_all_readers_take_the_same_flags(kvsim, verb: tuple[str, ...]) -> None:
    out = kvsim(*verb, "--help").out
    assert [flag for flag in FLAGS.values() if not re.search(rf"^ +{flag}\b", out, re.MULTILINE)] == []
    assert {field.name for field in fields(Reading)} == {field for field, _, _ in READING.values()} == set(FLAGS)
