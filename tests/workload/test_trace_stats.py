from __future__ import annotations

import pytest

from kvsim.workload.stats import trace_stats


def test_the_figures_of_a_small_trace(json_lines) -> None:
    rows = [(0, 1024, 10, [0, 1]), (500, 1024, 20, [0, 2]), (1000, 600, 30, [0, 2]), (2000, 100, 0, [3])]
    path = json_lines(
        {"timestamp": t, "input_length": n, "output_length": out, "hash_ids": ids} for t, n, out, ids in rows
    )
    stats = trace_stats(path)
    assert (stats["requests"], stats["failed_rows"], stats["span_s"], stats["rate_per_s"]) == (3, 1, 1.0, 3.0)
    assert (stats["prompt_tokens"], stats["output_tokens"]) == (2648, 60)
    assert (stats["output_tokens_mean"], stats["output_tokens_p50"], stats["output_tokens_max"]) == (20.0, 20.0, 30)
    assert stats["infinite_cache_hit_rate"] == 3 / 6
    assert stats["infinite_cache_hit_rate_full_blocks"] == 2 / 5
    assert stats["infinite_cache_hit_rate_tokens"] == (512 + 512) / 2648


def test_without_hash_ids_there_is_no_hit_rate(text_file) -> None:
    stats = trace_stats(text_file("g.csv", "time,session,input,output\n5,a,1,1\n5,a,2,1\n"))
    assert stats["infinite_cache_hit_rate"] is None
    assert stats["infinite_cache_hit_rate_full_blocks"] is None
    assert stats["infinite_cache_hit_rate_tokens"] is None
    assert stats["rate_per_s"] is None and stats["sessions"] == 1


def test_the_published_mooncake_figures(shared_data) -> None:
    stats = trace_stats(shared_data / "traces/mooncake_conversation_trace.jsonl")
    assert stats["requests"] == 12_031
    assert round(stats["infinite_cache_hit_rate"], 4) == 0.3664
    assert round(stats["infinite_cache_hit_rate_full_blocks"], 4) == 0.3819
    assert round(stats["infinite_cache_hit_rate_tokens"], 4) == 0.3734
    assert stats["span_s"] == pytest.approx(3536.999)
