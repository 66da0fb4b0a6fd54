"""Workloads in one word: lengths against what is published of them, hit rates asked for, closed loops, wrong words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import WorkloadError
from kvsim.workload.hits import hit_rate
from kvsim.workload.lengths import LogNormal, Uniform, lengths_of_word
from kvsim.workload.read import read_trace
from kvsim.workload.words import WORDS, word_of
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace

CUSTOM = (
    "in=2000,out=300,prefix=800:10",
    "in=2k,out=100±30,hit=0.6,prefixes=10",
    "in=500,out=100-300,turns=4,think=10",
)


def same(one: Workload, other: Workload) -> bool:
    columns = (
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        "piece_chain",
        "piece_tokens",
        "output_chain",
        "session_id",
    )
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def drawn(text: str, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    found = word_of(text).generate(count, 1.0, 1)
    return found.prompt_tokens, found.output_tokens


def test_sharegpt_is_what_vllm_samples() -> None:
    """1,000 prompts of ``vllm bench serve`` are 217,393 and 201,847 tokens; the spread is of published lengths."""
    prompts, answers = drawn("sharegpt", 100_000)
    assert prompts.mean() == pytest.approx(217.393, rel=0.015) and answers.mean() == pytest.approx(201.847, rel=0.015)
    assert prompts.std() / prompts.mean() == pytest.approx(1.10, rel=0.02)
    assert answers.std() / answers.mean() == pytest.approx(1.17, rel=0.02)
    assert prompts.min() >= 4 and prompts.max() <= 1024 and answers.min() >= 4 and (prompts + answers).max() <= 2048


def test_summaries_are_as_long_as_published() -> None:
    """Sarathi-Serve's table; its standard deviation, which is not fitted, is 3,638."""
    prompts, answers = drawn("summarise")
    assert np.percentile(prompts, (50, 90)) == pytest.approx((7059, 12985), rel=0.02)
    assert prompts.std() == pytest.approx(3638, rel=0.03)
    assert np.percentile(answers, (50, 90)) == pytest.approx((208, 371), rel=0.02)


def test_completions_are_as_long_as_published() -> None:
    """Azure's trace of code of 2023; its 99th percentiles, which are not fitted, are 7,436 and 249."""
    prompts, answers = drawn("code")
    assert (np.median(prompts), prompts.mean()) == pytest.approx((1469, 2048), rel=0.03)
    assert np.percentile(prompts, 99) == pytest.approx(7436, rel=0.06)
    assert (np.median(answers), answers.mean()) == pytest.approx((13, 28), rel=0.04)
    assert np.percentile(answers, 99) == pytest.approx(249, rel=0.15)


@pytest.mark.parametrize("text", [*WORDS, *CUSTOM])
def test_every_word_has_the_rate_and_is_the_same_for_a_seed(text: str) -> None:
    word = word_of(text)
    found = word.generate(600, 4.0, 3)
    assert len(found) == 600 and found.is_closed == (text == "agent") and not found.holds_back
    assert found.mean_rate_per_s == pytest.approx(4.0, rel=0.12)
    assert same(found, word_of(text).generate(600, 4.0, 3)) and not same(found, word.generate(600, 4.0, 4))
    assert f"{word.sizes.prompt_most:,}" in word.describe() and f"{word.sizes.output_most:,}" in word.describe()
    assert "\n" not in word.describe()


@pytest.mark.parametrize("text", [*WORDS, *CUSTOM])
def test_every_word_has_users(text: str) -> None:
    found = word_of(text).users(7, 300, 3)
    assert len(found) == 300 and found.is_closed and found.holds_back
    if found.graph is None:
        assert found.max_concurrency == 7 and not found.arrival_s.any()
        return
    first = np.flatnonzero(found.graph.is_root)
    assert len(np.unique(found.session_id[first])) >= 7, "each user begins once, perhaps with several at once"
    assert text == "agent" or len(first) == 7
    assert np.all(np.diff(found.graph.offsets)[~found.graph.is_root] >= 1)


def test_no_more_users_are_said_than_have_anything_to_send() -> None:
    single = word_of("in=100,out=10").users(100, 8, 3)
    assert single.max_concurrency == 8
    assert single.info.notes[-1] == (
        "never more than 8 requests in flight: there are fewer requests than the 100 that were asked for"
    )
    assert word_of("in=100,out=10").users(8, 100, 3).info.notes[-1] == "never more than 8 requests in flight"
    chats = word_of("chat").users(500, 40, 3)
    users = len(np.unique(chats.session_id[np.flatnonzero(chats.graph.is_root)]))
    assert users < 500
    assert chats.info.notes[-1].startswith(f"{users} users, each in one session at a time: there are fewer sessions")


@pytest.mark.parametrize("text", ["chat", CUSTOM[2]])
def test_turns_of_users_keep_their_order_and_content(text: str) -> None:
    found = word_of(text).users(5, 200, 3)
    last: dict[int, int] = {}
    after, _ = found.graph.as_turns()
    assert len(set(after[after >= 0].tolist())) == np.count_nonzero(after >= 0) == 195
    for request in found:
        if request.session_id in last:
            assert after[request.request_id] == last[request.session_id]
        last[request.session_id] = request.request_id
    assert found.info.infinite_cache_hit_rate_tokens == hit_rate(found)


@given(
    hit=st.floats(0, 0.85),
    count=st.integers(1, 8),
    requests=st.integers(200, 600),
    seed=st.integers(0, 99),
    lengths=st.sampled_from(["2000", "1000-3000", "700±300"]),
)
def test_a_hit_rate_is_had_within_one_percent(hit: float, count: int, requests: int, seed: int, lengths: str) -> None:
    found = word_of(f"in={lengths},out=10,hit={hit},prefixes={count}").generate(requests, 1.0, seed)
    assert hit_rate(found) == pytest.approx(hit, abs=0.01)
    assert len(np.unique(found.piece_chain[found.piece_chain >= 0])) <= count


def test_a_hit_rate_with_prefixes_of_a_length_is_had_by_so_many_requests() -> None:
    found = word_of("in=2000,out=300,hit=0.3,prefix=800:10").generate(1000, 1.0, 1)
    shared = found.piece_chain >= 0
    assert set(found.piece_tokens[shared].tolist()) == {800}
    # 0.3 of 2,000,000 tokens are 750 hits of 800; the first request of each prefix has none.
    assert np.count_nonzero(shared) == 750 + 10


@pytest.mark.parametrize(("schema", "lengths"), [("mooncake", "2000"), ("mooncake", "900-4000"), ("bailian", "300")])
def test_a_hit_rate_survives_the_blocks_of_a_file(tmp_path, schema: str, lengths: str) -> None:
    found = word_of(f"in={lengths},out=10,hit=0.6,prefixes=10").generate(2000, 1.0, 1)
    write_trace(found, tmp_path / "t.jsonl", schema)
    assert read_trace(tmp_path / "t.jsonl").info.infinite_cache_hit_rate_tokens == pytest.approx(0.6, abs=0.01)


def test_prefixes_are_part_of_the_prompt() -> None:
    found = word_of("in=2000,out=300,prefix=800:10").generate(1000, 1.0, 1)
    assert set(found.prompt_tokens.tolist()) == {2000}
    assert hit_rate(found) == pytest.approx((1000 - 10) * 800 / 2_000_000)


def test_turns_carry_all_that_was_said() -> None:
    found = word_of("in=100,out=50,turns=3,think=1,prefix=40:1").generate(999, 5.0, 2)
    assert set(found.prompt_tokens.tolist()) == {100, 250, 400}
    assert {request.pieces[0] for request in found} == {(0, 40)}
    assert all(request.pieces[1][0] == request.output_chain for request in found)


def test_a_trace_is_a_word() -> None:
    word = word_of("trace/mooncake_sample.jsonl")
    assert word.sizes.requests == 40
    assert word.generate(30, 2.0, 1).mean_rate_per_s == pytest.approx(2.0)
    assert len(word.generate(500, 2.0, 1)) == 500
    assert word.users(3, 20, 1).max_concurrency == 3 and len(word.users(3, 20, 1)) == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [("300", Uniform(300, 300)), ("2k", Uniform(2000, 2000)), ("10-20", Uniform(10, 20)), ("5±0", Uniform(5, 5))],
)
def test_lengths_of_words(text: str, said: Uniform) -> None:
    assert lengths_of_word("in", text) == said


@pytest.mark.parametrize("text", ["2000±500", "2000+-500", "2k +/- 500"])
def test_a_spread_is_a_lognormal_of_that_mean_and_deviation(text: str) -> None:
    lengths = lengths_of_word("in", text)
    assert isinstance(lengths, LogNormal)
    found = lengths.draw(50_000, np.random.default_rng(1))
    assert (found.mean(), found.std()) == pytest.approx((2000, 500), rel=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shargpt", "workload 'shargpt' is unknown; did you mean 'sharegpt'? allowed: sharegpt, chat, rag, agent, "),
        ("", "workload '' is unknown; allowed: sharegpt"),
        ("trace/mooncak_sample.jsonl", "did you mean trace/mooncake_sample.jsonl?"),
        ("x" * 5000, "is unknown"),
        ("in=2000", "has no out"),
        ("out=5", "has no in"),
        ("in=2000,out=300,prefx=3", "unknown key 'prefx'; did you mean 'prefix'? known: in, out, prefix"),
        ("in=2000,out=300,zzz=3", "unknown key 'zzz'; known: in"),
        ("in=2000,in=3,out=300", "in is given twice"),
        ("in=2000,out=", "out has no value; allowed: out=answer tokens"),
        ("in=0,out=3", "in is '0'; allowed: 1 to"),
        ("in=30-20,out=3", "a range from the smaller"),
        ("in=abc,out=3", "in is 'abc'; allowed: a number (2000, 2k), a range"),
        ("in=20,out=3,prefix=20", "prefix is 20 tokens, part of in; allowed: below in = 20"),
        ("in=20,out=3,prefix=5:x", "prefix is '5:x'; allowed: a whole number"),
        ("in=20,out=3,prefix=5-7:2", "allowed: TOKENS:COUNT"),
        ("in=20,out=3,prefixes=2", "prefixes goes with hit"),
        ("in=20,out=3,hit=0.2,prefixes=2,prefix=5:1", "prefix and prefixes; allowed: one of them"),
        ("in=20,out=3,hit=60", "hit is '60'; allowed: a share"),
        ("in=20,out=3,hit=nan", "hit is 'nan'"),
        ("in=20,out=3,hit=0.5,turns=3", "allowed: one of them"),
        ("in=20,out=3,turns=0", "turns is '0'; allowed: a whole number, 1 or more"),
        ("in=20,out=3,turns=2,think=-1", "think is '-1'; allowed: seconds"),
        ("in=20,out=3,think=1", "without turns=2 or more"),
    ],
)
def test_wrong_words_are_one_line(text: str, message: str) -> None:
    with pytest.raises(WorkloadError) as wrong:
        word_of(text)
    assert message in str(wrong.value) and "\n" not in str(wrong.value)


@pytest.mark.parametrize("text", [*WORDS, *CUSTOM])
def test_wrong_numbers_are_one_line(text: str) -> None:
    word = word_of(text)
    for wrong in (lambda: word.generate(0, 1.0, 1), lambda: word.generate(5, 0.0, 1), lambda: word.users(0, 5, 1)):
        with pytest.raises(WorkloadError, match="allowed"):
            wrong()


def test_a_hit_rate_out_of_reach_says_what_is_in_reach() -> None:
    with pytest.raises(
        WorkloadError, match=r"a hit rate of 0.9 with 100 requests and 2 prefixes of 800 tokens: the nearest is 0.392"
    ):
        word_of("in=2000,out=300,hit=0.9,prefix=800:2").generate(100, 1.0, 1)
