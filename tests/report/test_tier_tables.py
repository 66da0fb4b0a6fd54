"""What the report of policies and memories says, from hand-made results."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.report.tier_conclusion import conclude_tiers
from kvsim.report.tier_studies import capacity_sentence, contexts_sentence, eic_sentence, tiers_sentence


def result(name: str, hit_rate: float, ttft_ms: float, **misses: float) -> dict[str, Any]:
    return {
        "name": name,
        "ttft_ms": {"mean": ttft_ms, "p50": ttft_ms, "p99": 2 * ttft_ms},
        "cache": {"prefix_hit_rate": hit_rate, "misses": misses, "by_tier": {"hbm": hit_rate}},
        "conservation": {"ok": True},
        "incomplete": False,
        "steady": {"ok": True},
        "requests": {"completed_in_window": 100, "failed_in_window": 0},
    }


def report(*results: dict[str, Any], infinite: float | None = None) -> dict[str, Any]:
    workload = {"requests": 100, "span_s": 10.0, "load": None, "infinite_cache_hit_rate_tokens": infinite}
    return {"results": list(results), "workload": workload}


def test_the_best_is_named_with_what_it_gains() -> None:
    said = conclude_tiers(report(result("baseline", 0.4, 200.0, evicted_tokens=0.3), result("arc", 0.5, 150.0)))
    assert said.startswith("arc has the lowest mean TTFT at the workload's own 10.0 requests/s: it hits 50%")
    assert "where baseline hits 40% of prompt tokens at a mean TTFT of 200 ms" in said
    assert "most of what baseline computes is evicted before reuse (30% of prompt tokens)" in said


def test_a_tie_is_called_one_and_the_oracle_is_no_contender() -> None:
    results = result("baseline", 0.4, 200.0), result("arc", 0.41, 199.0), result("belady", 0.6, 100.0)
    said = conclude_tiers(report(*results))
    assert said.startswith("baseline ties with arc in mean TTFT, within 5%")
    assert "the oracle hits 19.0 points more than arc, which is worth 99.0 ms of mean TTFT" in said


def test_an_oracle_that_hits_less_tells_of_noise() -> None:
    said = conclude_tiers(report(result("lru", 0.62, 200.0), result("belady", 0.59, 210.0)))
    assert "the oracle hits 3.00 points less than lru" in said
    assert "do not tell policies apart" in said


def test_the_share_of_a_cache_without_end() -> None:
    assert "a cache without end would hit 80%, of which lru has 50%" in conclude_tiers(
        report(result("lru", 0.4, 200.0), infinite=0.8)
    )


def test_what_is_not_to_be_trusted_is_said_first() -> None:
    broken = result("lru", 0.4, 200.0) | {"conservation": {"ok": False}}
    assert conclude_tiers(report(broken)).startswith("[Not to be trusted, conservation violated in lru]")


def test_a_small_pool_buys_little_and_the_sentence_says_so() -> None:
    def row(size_gb: float, hit_rate: float, ttft_ms: float) -> dict[str, Any]:
        busy = {"eic": 0.95 if size_gb > 1000 else 0.2}
        return {
            "beside": ["hbm"], "pool_gb_per_rack": size_gb, "hit_rate": hit_rate, "ttft_mean_ms": ttft_ms,
            "busiest_share": busy,
        }  # fmt: skip

    rows = [row(0, 0.3, 300.0), row(128, 0.32, 290.0), row(4000, 0.5, 200.0)]
    said = eic_sentence({"rows": rows, "smaller_than_an_instance": [128], "hbm_kv_gb_per_instance": 150.0})
    assert "takes the hit rate from 30% to 50% and mean TTFT from 300 to 200 ms" in said
    assert "one of 128 GB, less than the 150 GB that one instance holds itself, buys 10% of those hits" in said
    assert said.endswith("its port is the bottleneck")


def test_tiers_that_save_nothing_are_said_to() -> None:
    added = {"ttft_mean_ms": 0.1, "hit_points": 0.0, "used_gb": 5.0}
    rows = [{"tiers": ["hbm"], "ttft_mean_ms": 100.0}, {"tiers": ["hbm", "dram"], "ttft_mean_ms": 99.9, "added": added}]
    assert tiers_sentence({"rows": rows}).startswith("no tier lowers mean TTFT by more than 1%")
    rows[1]["added"] = added | {"ttft_mean_ms": 40.0, "hit_points": 12.0}
    assert tiers_sentence({"rows": rows}).startswith("dram saves most: 40.0 ms of mean TTFT and 12.0 points")


@pytest.mark.parametrize(
    ("whole", "noise_points", "words"),
    [
        (0.302, 0.0, "adds next to nothing"),
        (0.6, 0.1, "the curve bends at 20.0 GB a host"),
        (0.6, 4.9, "LRU is farthest from the oracle at 10.0 GB: 5.0 points"),
        (0.6, 5.1, "policies are not told apart: hit rates fall by up to 5.1 points"),
    ],
)
def test_the_knee_is_told_where_memory_matters(whole: float, noise_points: float, words: str) -> None:
    rows = [
        {"capacity_gb_per_host": size, "policies": {"lru": {"hit_rate": rate}}}
        for size, rate in ((10.0, 0.4), (20.0, 0.58), (40.0, 0.6))
    ]
    gaps = [{"lru": {"hit_points": points, "ttft_mean_ms": points}} for points in (5.0, 2.0, 0.0)]
    study = {
        "rows": rows, "without": {"hit_rate": 0.3}, "whole": {"hit_rate": whole}, "gap_to_belady": gaps,
        "knee_gb_per_host": 20.0, "noise_hit_points": noise_points,
    }  # fmt: skip
    assert words in capacity_sentence(study)


def test_tiers_matter_most_where_they_save_the_largest_share() -> None:
    def row(tokens: int, with_ms: float, without_ms: float) -> dict[str, Any]:
        return {
            "context_tokens": tokens, "with_tiers": {"ttft_mean_ms": with_ms}, "without": {"ttft_mean_ms": without_ms}
        }  # fmt: skip

    said = contexts_sentence({"rows": [row(4096, 50.0, 100.0), row(32768, 900.0, 1000.0)]})
    assert said == "tiers save most at contexts of 4,096 tokens: 50% of mean TTFT, 50.0 ms"
    assert "by less than 1%" in contexts_sentence({"rows": [row(4096, 100.0, 100.0)]})
