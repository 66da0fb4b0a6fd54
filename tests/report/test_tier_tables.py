"""What the report of policies and memories says, from hand-made results."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from answers import RUNS, SIZE, apart, memory_figures, memory_means
from reports import TIER, report_of, summary
from rich.console import Console

from kvsim.record.figures import Conservation, SystemSummary
from kvsim.record.labels import COMPONENT_LABELS
from kvsim.report.report import Report
from kvsim.report.tables import print_report, print_studies
from kvsim.report.tier_conclusion import ORACLE, conclude_tiers
from kvsim.study.intervals import Verdict
from kvsim.study.questions.capacity import CapacityAnswer, SizeRow, WidestGap, capacity_sentence
from kvsim.study.questions.eic import EicAnswer, OverNoPool, PoolRow, eic_sentence
from kvsim.study.questions.session_contexts import ContextRow, ContextsAnswer, contexts_sentence
from kvsim.study.questions.tiers import Added, TiersAnswer, TiersRow, tiers_sentence
from kvsim.study.replication import Apart


def result(name: str, hit_rate: float, ttft_ms: float, **misses: float) -> SystemSummary:
    return summary(
        name=name,
        ttft_ms={"mean": ttft_ms, "p50": ttft_ms, "p99": 2 * ttft_ms},
        cache={"prefix_hit_rate": hit_rate, "misses": misses, "by_tier": {"hbm": hit_rate}},
    )


def report(*results: SystemSummary, infinite: float | None = None) -> Report:
    workload = {"requests": 100, "load": None, "infinite_cache_hit_rate_tokens": infinite}
    return report_of(*results, mode="single", workload=workload)


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
    broken = replace(result("lru", 0.4, 200.0), conservation=Conservation(ok=False, checks=()))
    assert conclude_tiers(report(broken)).startswith("[Not to be trusted, conservation violated in lru]")


def pool(size_gb: float, hits: float, change_ms: float, verdict: Verdict | None = None) -> PoolRow:
    """Beside 30% and 300 ms without one."""
    return PoolRow(
        beside=("hbm",),
        pool_gb_per_rack=size_gb,
        means=memory_means(
            hit_rate=0.3 + hits,
            ttft_mean_ms=300 + change_ms,
            ttft_p99_ms=900.0,
            busiest_share={"eic": 0.95 if size_gb > 1000 else 0.2},
        ),
        over_no_pool=OverNoPool(
            hit_rate=apart(hits, None if hits else "same", 0.0), ttft_mean_ms=apart(change_ms, verdict)
        ),
    )


def pools(*rows: PoolRow) -> EicAnswer:
    return EicAnswer(
        size=SIZE,
        runs=RUNS,
        racks=1,
        requests=2500,
        hbm_kv_gb_per_instance=150.0,
        smaller_than_an_instance=(128,),
        rows=rows,
    )


def test_a_small_pool_buys_little_and_the_sentence_says_so() -> None:
    off = pool(0, 0.0, 0.0, "same")
    said = eic_sentence(pools(off, pool(128, 0.03, -10.0), pool(4000, 0.2, -100.0)))
    assert "takes the hit rate from 30% to 50% and mean TTFT from 300 to 200 ms (-100 ms);" in said
    assert "one of 128 GB, less than the 150 GB that one instance holds itself, buys 15% of those hits" in said
    assert said.endswith("its port is the bottleneck")
    unclear = eic_sentence(pools(off, pool(128, 0.0, 0.0, "same"), pool(4000, 0.0, -9.0, "open")))
    assert "from 300 to 291 ms, which are not told apart" in unclear and "of those hits" not in unclear


def tiers(*added: tuple[str, float, Verdict, float]) -> TiersAnswer:
    rows = [TiersRow(tiers=("hbm",), means=memory_means())]
    for name, change_ms, verdict, half_width in added:
        tier = Added(
            used_gb=5.0,
            hit_points=12.0,
            ttft_mean_ms=-change_ms,
            ttft_mean_ms_per_tb=1.0,
            ttft_difference_ms=apart(change_ms, verdict, half_width),
        )
        rows.append(TiersRow(tiers=(*rows[-1].tiers, name), means=memory_means(), added=tier))
    return TiersAnswer(size=SIZE, runs=RUNS, requests=2500, rows=tuple(rows))


def test_tiers_that_save_nothing_are_said_to() -> None:
    said = tiers_sentence(tiers(("dram", -0.1, "tie", 0.01), ("ssd", 0.0, "same", 0.0)))
    assert said.startswith("no tier lowers mean TTFT by more than 1%")
    said = tiers_sentence(
        tiers(("dram", -40.0, "lower", 0.5), ("eic", -20.0, "lower", 9.0), ("ssd", -9.0, "open", 20.0))
    )
    assert said == (
        "dram saves 40.0 ms of mean TTFT and 12.0 points of hit rate, with 5.00 GB in use; "
        "eic saves 20.0 ± 9.00 ms of mean TTFT and 12.0 points of hit rate, with 5.00 GB in use; "
        "what ssd saves of mean TTFT is not told apart from nothing"
    )


def capacity(whole: float, noise_points: float, gap: WidestGap | None) -> CapacityAnswer:
    rows = tuple(
        SizeRow(share=1.0, capacity_gb_per_host=size, policies={"lru": memory_figures(hit_rate=rate)})
        for size, rate in ((10.0, 0.4), (20.0, 0.58), (40.0, 0.6))
    )
    return CapacityAnswer(
        size=SIZE,
        runs=RUNS,
        hosts=1,
        requests=2500,
        requests_per_s=1.0,
        footprint_gb=40.0,
        without=memory_figures(ttft_mean_ms=200.0),
        whole=memory_figures(hit_rate=whole),
        rows=rows,
        knee_gb_per_host=20.0,
        gap_to_belady=(),
        noise_hit_points=noise_points,
        widest_gap=gap,
        gain_per_gb=(),
    )


def gap(hit_rate: Apart, ttft_mean_ms: Apart) -> WidestGap:
    return WidestGap(capacity_gb_per_host=10.0, runs=RUNS, hit_rate=hit_rate, ttft_mean_ms=ttft_mean_ms)


GAP = gap(apart(0.05, half_width=0.001), apart(-5.0, half_width=1.0))
NO_GAP = gap(apart(0.01, "open", 0.05), apart(-5.0, "open", 10.0))


@pytest.mark.parametrize(
    ("whole", "noise_points", "gap", "words"),
    [
        (0.302, 0.0, None, "adds next to nothing"),
        (0.6, 0.1, GAP, "in one run each, under LRU the curve bends at 20.0 GB a host"),
        (0.6, 4.9, GAP, "farthest from the oracle, 3 to 5 runs of each give the oracle +5.00 points of"),
        (0.6, 4.9, GAP, "mean TTFT: -5.00 ± 1.00 ms"),
        (0.6, 4.9, NO_GAP, "the two are not told apart in 3 to 5 runs of each"),
        (0.6, 5.1, None, "policies are not told apart: hit rates fall by up to 5.1 points"),
    ],
)  # fmt: skip
def test_the_knee_is_told_where_memory_matters(
    whole: float, noise_points: float, gap: WidestGap | None, words: str
) -> None:
    assert words in capacity_sentence(capacity(whole, noise_points, gap))


def contexts(*rows: tuple[int, float, Verdict, float]) -> ContextsAnswer:
    cells = memory_means(hit_rate=0.5)
    found = (
        ContextRow(
            context_tokens=tokens,
            requests=2500,
            requests_per_s=1.0,
            runs=RUNS,
            with_tiers=cells,
            without=cells,
            saved=apart(change_ms, verdict, half_width),
        )
        for tokens, change_ms, verdict, half_width in rows
    )
    return ContextsAnswer(size=SIZE, runs=RUNS, rows=tuple(found))


def test_what_tiers_save_at_each_length() -> None:
    said = contexts_sentence(
        contexts((4096, -50.0, "lower", 0.1), (32768, -10.0, "lower", 3.0), (65536, 1.0, "open", 5.0))
    )
    assert said == (
        "at 4,096 tokens tiers save 50.0 ms of mean TTFT, 50%; "
        "at 32,768 tokens tiers save 10.0 ± 3.00 ms of mean TTFT, 10%; "
        "at 65,536 tokens with and without tiers are not told apart"
    )
    assert "by less than 1%" in contexts_sentence(contexts((4096, 0.0, "same", 0.0)))


def test_memory_with_which_the_rate_of_the_run_is_too_much_is_named() -> None:
    study = tiers(("dram", -40.0, "lower", 0.5))
    assert "TTFT grows" not in tiers_sentence(study)
    none, *others = study.rows
    study = replace(study, rows=(replace(none, means=memory_means(growing_share=0.8)), *others))
    grows = ": the run's rate is too much there, and TTFT grows with the length of runs"
    assert tiers_sentence(study).endswith(f"; hbm{grows}")
    study = contexts((4096, -50.0, "lower", 1.0))
    study = replace(study, rows=(replace(study.rows[0], without=memory_means(growing_share=1.0)),))
    assert contexts_sentence(study).endswith(f"; without tiers at 4,096{grows}")
    large = pool(1000, 0.3, -150.0)
    large = replace(large, means=replace(large.means, growing_share=0.5))
    study = pools(pool(0, 0.0, 0.0), pool(128, 0.1, -50.0), large)
    assert eic_sentence(study).endswith(f"; hbm, 1,000 GB{grows}")


def test_tables_of_memory_fit_a_terminal() -> None:
    studies = {
        "capacity": capacity(0.6, 4.9, GAP), "tiers": tiers(("dram", -1234.5, "lower", 123.4)),
        "eic": pools(pool(0, 0.0, 0.0, "same"), pool(128, 0.03, -10.0), pool(4000, 0.2, -100.0)),
        "contexts": contexts((131_072, -12_345.6, "lower", 1_234.5)),
    }  # fmt: skip
    console = Console(width=80, file=None, highlight=False)
    with console.capture() as captured:
        print_studies(console, studies)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_the_first_ahead_of_some_and_near_others() -> None:
    """Who is near and who takes longer, by name; nobody has to guess which of a list ties."""
    results = [result("baseline", 0.4, 200.0), result("arc", 0.41, 199.0), result("lfu", 0.4, 203.0)]
    said = conclude_tiers(report(*results, result("hybrid", 0.3, 250.0), result("fifo", 0.2, 300.0)))
    assert said.startswith("No other has a mean TTFT 5% or more below that of baseline, which hits 40%")
    assert "; arc and lfu are within 5% of it; hybrid and fifo take longer, 250 to 300 ms" in said
    alone = conclude_tiers(report(results[0], result("fifo", 0.2, 300.0)))
    assert "within" not in alone and "; fifo takes longer, 300 ms" in alone
    three = conclude_tiers(report(*results))
    assert three.startswith("baseline ties with arc and lfu in mean TTFT, within 5%: it hits 40%")


def wide(name: str, scale: float) -> SystemSummary:
    """A result whose every figure is as wide as a simulation could make it."""
    parts = dict.fromkeys(COMPONENT_LABELS, 1234567.0 * scale)
    figures = ("tiers", "capacity_bytes", "held_bytes", "read_bytes", "written_bytes", "evicted_chunks",
               "busiest_share", "mean_wait_s")  # fmt: skip
    return summary(
        name=name,
        ttft_ms={"mean": 104_321.0 * scale, "p50": 87_654.0 * scale, "p99": 1_234_567.0 * scale},
        tpot_ms={"mean": 12_345.0},
        goodput={"requests_per_s": 123_456.0},
        attribution_ms={"mean": parts, "p99": parts},
        cache={
            "prefix_hit_rate": 0.4567,
            "misses": {"evicted_tokens": 0.3},
            "by_tier": {"hbm": 0.4567, "dram": 0.1},
            "active": {"instances": 10_240, "racks": 160},
            "tiers": {"dram": TIER | dict.fromkeys(figures, 98_765_432_109_876)},
        },
    )


NAMES = ("baseline", "arc", "session_prefetch", "selective_write", "learned", "hybrid", "own.module:Policy", ORACLE)


def whole_report() -> Report:
    return report_of(
        *(wide(name, 1 + place) for place, name in enumerate(NAMES)),
        mode="single",
        workload={"load": None},
        cluster={"warnings": ("study 'capacity' failed: too few requests",)},
    )


@pytest.mark.parametrize("columns", [200, 80, 60])
def test_no_figure_and_no_policy_is_cut(columns: int) -> None:
    stream = io.StringIO()
    print_report(Console(width=columns, file=stream, highlight=False), whole_report())
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns and "…" not in stream.getvalue()
    table = "\n".join(lines[: next(place for place, line in enumerate(lines) if "Where TTFT goes" in line)])
    for place in range(len(NAMES)):
        assert f"{104_321 * (1 + place):,}" in table and f"{1_234_567 * (1 + place):,}" in table
    for figure in ("98,765,432,109,876", "123,456", "98,765"):
        assert figure in table
    assert table.count(ORACLE) >= 2, "the oracle has its row, and its column in where tokens come from"


def test_warnings_and_failed_studies_are_printed() -> None:
    stream = io.StringIO()
    print_report(Console(width=200, file=stream), whole_report())
    assert "warning: study 'capacity' failed: too few requests" in stream.getvalue()
