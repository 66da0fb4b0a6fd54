"""The KV lab's arithmetic of hits against the engine's counting, request by request; families, order, warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.lab.kv.audit import audit
from kvsim.lab.kv.backends.simulated import SimulatedServers
from kvsim.lab.kv.families import FAMILIES
from kvsim.lab.kv.phases import names_of
from kvsim.lab.kv.points import points_of
from kvsim.lab.kv.reading import NamedDesign, checked
from kvsim.lab.kv.running import Scope, run_design
from kvsim.lab.kv.trial import Trials
from kvsim.measure.prompts import Prompts

LINE = "vllm serve meta-llama/Llama-3.2-1B-Instruct"


def design(**keys: Any) -> NamedDesign:
    tree = {"question": "?", "server": LINE, "gpu": "h100-sxm", "family": "shared_prefix", "output_tokens": 3} | keys
    return NamedDesign(name="own", where="own.yaml", design=checked(tree, "own.yaml"))


def ran(asked: NamedDesign, first: int = 0, count: int = 1) -> Trials:
    return run_design(asked, SimulatedServers(), Scope(first=first, count=count), lambda _: None)


def hits(found: Trials, phase: str) -> list[int | None]:
    return [row.cached_tokens for row in found.requests if row.phase == phase]


@settings(max_examples=25)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    prefix=st.integers(0, 300),
    suffix=st.integers(1, 90),
    answer=st.integers(1, 40),
    block_size=st.sampled_from([16, 32, 64, 128]),
    requests=st.integers(1, 11),
    warm=st.sampled_from(["none", "same", "neutral"]),
    warm_requests=st.integers(1, 13),
    seed=st.integers(0, 5),
)
def test_arithmetic_is_the_engines_count_request_by_request(
    family: str,
    prefix: int,
    suffix: int,
    answer: int,
    block_size: int,
    requests: int,
    warm: str,
    warm_requests: int,
    seed: int,
) -> None:
    asked = design(
        server=f"{LINE} --block-size {block_size}",
        family=family,
        prefix_tokens=prefix,
        suffix_tokens=suffix,
        output_tokens=answer,
        requests=requests,
        warm_up=warm,
        warm_up_requests=warm_requests,
        seed=seed,
    )
    found = ran(asked)
    for row in audit(asked).phases:
        assert list(row.expected_hits) == hits(found, row.phase), row
    for phase in found.phases:
        assert phase.prefix_hits == phase.expected_hit_tokens == phase.cached_tokens
        assert phase.prefix_queries == (phase.prompt_tokens if phase.phase == "cache" else 0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_family_shares_what_it_says_token_for_token(family: str) -> None:
    """Found by the token ids alone, which a server is sent."""
    asked = design(family=family, prefix_tokens=40, suffix_tokens=20, requests=12)
    repeat = points_of(asked)[0].repeat(0)
    made = Prompts(repeat.content, np.arange(1000, 30000, dtype=np.int64), repeat.content_seed)
    cache = next(phase for phase in repeat.phases if phase.name == "cache")
    ids = [tuple(np.concatenate([part.ids for part in made.parts(each)]).tolist()) for each in cache.counted]
    prefixes = {"matched_unique_prefix": 12, "variants": 4, "no_repeat_variants": 4}.get(family, 1)
    different = {"variants": 8, "repeated": 1}.get(family, 12)
    assert (len({each[:40] for each in ids}), len(set(ids))) == (prefixes, different)
    assert len({each[:41] for each in ids}) == different, "suffixes part at their first token"
    row = audit(asked).phases[1]
    assert (len(row.prefixes), row.prompts - row.duplicates) == (prefixes, different)
    assert (row.aligned_tokens, row.whole_blocks) == (32, sum(len(each) // 16 for each in ids))


def test_hits_by_hand() -> None:
    """1,000 shared tokens are 62 blocks of 16, 992 tokens; 1,100 are 68 of 69 blocks."""
    asked = {"prefix_tokens": 1000, "suffix_tokens": 100, "requests": 3}
    assert hits(ran(design(**asked)), "cache") == [0, 992, 992]
    assert hits(ran(design(**asked, warm_up="neutral")), "cache") == [0, 992, 992]
    assert hits(ran(design(**asked, warm_up="same")), "cache") == [1088, 992, 992]
    assert hits(ran(design(**asked, warm_up="same")), "cold") == [0, 0, 0]
    assert hits(ran(design(**asked, family="repeated")), "cache") == [0, 1088, 1088]
    # 1,088 tokens are 68 whole blocks, of which the last has the prompt's last token.
    assert hits(ran(design(family="repeated", prefix_tokens=1000, suffix_tokens=88, requests=2)), "cache") == [0, 1072]


def test_on_one_engine_no_phase_finds_what_another_left() -> None:
    asked = design(cold="unique_prompts", isolation="same_engine", requests=4, family="repeated")
    found = ran(asked)
    assert hits(found, "cold") == [0] * 4 and hits(found, "cache") == [0, 1136, 1136, 1136]
    twice = ran(design(compare="itself", isolation="same_engine", requests=3))
    assert hits(twice, "first") == hits(twice, "second") == [0, 1024, 1024]
    first, second = (row for row in twice.phases)
    assert (first.ttft_mean_ms, first.e2e_p95_ms) == (second.ttft_mean_ms, second.e2e_p95_ms)


def test_a_control_is_as_long_as_what_it_controls() -> None:
    asked = design(compare="profile", family="no_repeat_variants", control="matched_unique_prefix", requests=9)
    repeat = points_of(asked)[0].repeat(3)
    lengths = {tuple(phase.counted.prompt_tokens.tolist()) for phase in repeat.phases}
    assert len(lengths) == 1 and len(set(*lengths)) > 1
    assert [row.expected_hit_tokens for row in audit(asked).phases] == [0, 5 * 1024, 0, 0]


def test_orders() -> None:
    profile = design(compare="profile", control="matched_unique_prefix", order="alternate").design
    assert names_of(profile, 0) == ("cold", "cache", "control_cold", "control_cache")
    assert names_of(profile, 1) == ("cache", "cold", "control_cache", "control_cold")
    found = ran(design(order="alternate", requests=1), count=3)
    assert [row.phase for row in found.phases] == ["cold", "cache", "cache", "cold", "cold", "cache"]
    assert [row.order for row in found.phases] == [0, 1] * 3


def test_arithmetic_says_when_it_does_not_know() -> None:
    overlap = audit(design(concurrency=4, requests=8)).phases
    assert [row.expected_hit_tokens for row in overlap] == [0, None] and "overlap" in overlap[1].why_unknown
    warmed = design(concurrency=4, requests=8, warm_up="same")
    assert audit(warmed).phases[1].expected_hit_tokens == 7 * 1024 + 1136 == sum(map(int, hits(ran(warmed), "cache")))
    tight = audit(design(server=f"{LINE} --num-gpu-blocks-override 100 --max-model-len 1500")).phases
    assert tight[1].expected_hit_tokens is None and "evicted" in tight[1].why_unknown
    unique = audit(design(family="matched_unique_prefix", rate_per_s=5.0)).phases
    assert [row.expected_hit_tokens for row in unique] == [0, 0]


def test_longest_of_others_decides_what_may_be_hit_at_most() -> None:
    """Prompts that repeat at other lengths: the short one is a head of the long one, never more than that is found."""
    asked = design(family="no_repeat_variants", concurrency=12, requests=12, suffix_tokens=64, prefix_tokens=256)
    for row in ran(asked).requests:
        assert row.expected_hit_tokens in (None, row.cached_tokens) and (row.cached_tokens or 0) <= 256


def test_repeats_do_not_depend_on_how_they_are_cut() -> None:
    asked = design(
        rate_per_s=20.0, requests=6, family="no_repeat_variants", order="alternate", vary={"output_tokens": [2, 5]}
    )
    whole, parts = ran(asked, 0, 4), [ran(asked, 0, 1), ran(asked, 1, 3)]
    assert whole.phases == tuple(row for part in parts for row in part.phases)
    assert whole.requests == tuple(row for part in parts for row in part.requests)
    sent = {tuple(row.sent_s for row in whole.requests if row.repeat == repeat) for repeat in range(4)}
    assert len(sent) == 4, "every repeat draws its own arrivals"


def test_in_process_lacks_what_a_server_adds() -> None:
    server, inside = ran(design(compare="entry", requests=2)).phases
    assert server.ttft_mean_ms is not None and inside.ttft_mean_ms is not None
    assert server.ttft_mean_ms - inside.ttft_mean_ms == pytest.approx(5.9)
    assert server.tpot_mean_ms == inside.tpot_mean_ms and server.prefix_hits == inside.prefix_hits


def test_closed_loop_keeps_so_many_in_flight() -> None:
    """Everything is sent at once or the moment another ends, so many at a time and no more."""
    rows = [row for row in ran(design(concurrency=3, requests=9)).requests if row.phase == "cache"]
    ends = [row.finish_s for row in rows if row.finish_s is not None]
    assert [row.sent_s for row in rows[:3]] == [0.0] * 3
    for row in rows[3:]:
        assert row.sent_s in ends
        assert sum(each.sent_s <= row.sent_s < (each.finish_s or 0) for each in rows) == 3


def test_a_search_halves_down_to_what_starts() -> None:
    search = {"key": "gpu_memory_utilization", "low": 0.01, "high": 0.97, "within": 0.01}
    found = ran(design(compare="nothing", requests=1, search=search)).phases
    tried = sorted((row.at["gpu_memory_utilization"], row.started, row.point) for row in found)
    starts = [started for _, started, _ in tried]
    assert starts == sorted(starts) and {True, False} == set(starts)
    bound = starts.index(True)
    assert tried[bound][0] - tried[bound - 1][0] <= 0.01
    assert all(row.failure and row.completed == 0 for row in found if not row.started)
    assert [place for _, _, place in tried] == sorted({place for _, _, place in tried})


def test_points_set_flags_of_the_server() -> None:
    asked = design(vary={"kv_budget_gb": [5, 8.5], "max_num_seqs": [1, 7]}, requests=1)
    points = points_of(asked)
    assert points[1].line == f"{LINE} --kv-cache-memory-bytes 5000000000 --max-num-seqs 7"
    assert [dict(point.at) for point in points][2] == {"kv_budget_gb": 8.5, "max_num_seqs": 1}
    sizes = [row.kv_tokens for row in ran(asked).phases if row.phase == "cache"]
    assert sizes[0] == sizes[1] and sizes[2] == pytest.approx(int(sizes[0] or 0) * 8.5 / 5, rel=1e-3)


def test_prompts_too_long_for_the_server() -> None:
    with pytest.raises(ConfigError, match=r"own\.yaml: a prompt of 65,664 tokens and an answer of 3 .* 65,666 tokens"):
        audit(design(family="mega_long", server=f"{LINE} --max-model-len 65666"))
    assert audit(design(family="mega_long", server=f"{LINE} --max-model-len 65667", requests=1)).phases


def test_shipped_designs_can_be_audited() -> None:
    from kvsim.lab.kv.reading import names, read_design, shipped_folder

    assert shipped_folder() == Path(__file__).resolve().parents[2] / "experiments" / "lab" and len(names()) >= 12
    for name in names():
        assert audit(read_design(name).changed(requests=2)).phases, name


@settings(max_examples=20)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    prefix=st.integers(0, 300),
    suffix=st.integers(1, 90),
    requests=st.integers(1, 12),
    warm=st.sampled_from(["none", "same", "neutral"]),
    blocks=st.integers(30, 140),
    pace=st.sampled_from([{}, {"concurrency": 3}, {"rate_per_s": 50.0}, {"rate_per_s": 500.0}]),
    seed=st.integers(0, 5),
)
def test_what_is_expected_is_counted_under_load_and_in_small_caches(
    family: str, prefix: int, suffix: int, requests: int, warm: str, blocks: int, pace: dict[str, Any], seed: int
) -> None:
    """Arithmetic may say that it does not know, and is never wrong."""
    asked = design(
        server=f"{LINE} --num-gpu-blocks-override {blocks} --max-model-len 450",
        family=family,
        prefix_tokens=prefix,
        suffix_tokens=suffix,
        requests=requests,
        warm_up=warm,
        warm_up_requests=4,
        seed=seed,
        **pace,
    )
    for row in ran(asked).requests:
        assert row.expected_hit_tokens in (None, row.cached_tokens), row
