"""Which deployments there are, by size and by degree."""

from __future__ import annotations

import pytest
from asked import LLAMA_8B, LLAMA_70B, question

from kvsim.errors import CapacityError, ConfigError
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.space import Space

TP4, SPLIT, MIXED = Family("unified", 4, 4), Family("pd", 4, 4), Family("pd", 4, 8)


def test_sizes_use_up_their_gpus() -> None:
    assert TP4.totals(16) == [4, 8, 12, 16] and list(TP4.splits(12)) == [(3, 0)]
    assert SPLIT.totals(16) == [8, 12, 16] and list(SPLIT.splits(16)) == [(1, 3), (2, 2), (3, 1)]
    assert MIXED.totals(24) == [16, 24] and list(MIXED.splits(16)) == [(2, 1)]
    assert list(MIXED.splits(24)) == [(2, 2), (4, 1)]
    assert (TP4.smallest, SPLIT.smallest, MIXED.smallest) == ((1, 0), (1, 1), (2, 1))
    assert Family("unified", 1, 1, 8).totals(16) == [8, 16]


@pytest.mark.parametrize("family", [TP4, SPLIT, MIXED, Family("pd", 8, 4), Family("pd", 2, 2, 4)])
def test_every_split_has_the_gpus_it_is_of(family: Family) -> None:
    for total in family.totals(64):
        found = list(family.splits(total))
        assert found and all(family.gpus(counts) == total for counts in found)


def test_names_say_what_runs_where() -> None:
    arguments = Arguments(2048, 128, "affinity")
    assert Candidate(MIXED, (2, 1), arguments).name == "2P+1D TP4+TP8, budget 2048, 128 seats, affinity"
    assert Candidate(Family("unified", 1, 1, 8), (2, 0), arguments).structure == "2 x TP1 x DP8"


def test_degrees_that_do_not_fit_are_dropped_with_a_reason() -> None:
    space = Space(question(LLAMA_70B, gpus=16))
    assert {(one.system, one.prefill, one.decode) for one in space.families} == {
        ("unified", 4, 4), ("unified", 8, 8), ("pd", 4, 4), ("pd", 8, 8), ("pd", 4, 8), ("pd", 8, 4),
    }  # fmt: skip
    assert {one.kind for one in space.dropped} == {"memory"} and "141.1 GB of weights" in space.dropped[0].why


def test_what_the_line_says_is_not_tried_otherwise() -> None:
    line = f"{LLAMA_8B} --tensor-parallel-size 2 --max-num-batched-tokens 4096 --max-num-seqs 100"
    space = Space(question(line, gpus=4, sets=("routing.prefill=round_robin",)))
    assert {one.prefill for one in space.families} == {2}
    assert space.arguments(space.families[0], routes=True) == (Arguments(4096, 100, "round_robin"),)


@pytest.mark.parametrize(
    ("line", "sets", "said"),
    [
        (f"{LLAMA_8B} --pipeline-parallel-size 2", (), "engine.pipeline_parallel_size = 2: recommend compares engines"),
        (LLAMA_8B, ("engine.pipeline_parallel_size=2",), "allowed: 1"),
        (LLAMA_8B, ("engine.tensor_parallel_size=2",), "allowed: leave it out, or --tensor-parallel"),
        (LLAMA_8B, ("model.name=llama-3.1-70b",), "--set model.name: LINE and the search give it"),
        (LLAMA_8B, ("hardware.gpu=a100-80gb-sxm",), "--gpu and --set both give hardware.gpu; give one"),
        (LLAMA_8B, ("pd_separation.pd_ratio=[1, 2]",), "--set pd_separation.pd_ratio: LINE and the search give it"),
    ],
)
def test_what_would_run_under_the_name_of_another_is_refused(line: str, sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Space(question(line, sets=sets))
    assert said in str(refused.value)


def test_a_mixture_of_experts_shares_them_inside_a_host() -> None:
    space = Space(question("vllm serve Qwen/Qwen3-30B-A3B", gpus=16))
    groups = {one.data_parallel for one in space.families}
    assert groups == {1, 2, 4, 8} and all(max(one.server_gpus) <= 8 for one in space.families)
    found = next(one for one in space.families if one.data_parallel == 8)
    launch = space.launch(space.smallest(found))
    assert launch.arguments["enable_expert_parallel"] is True and launch.arguments["data_parallel_size"] == 8
    assert space.plan(space.smallest(found)).engines_in_step == 8


def test_plans_have_the_servers_of_their_candidates() -> None:
    space = Space(question(gpus=8))
    arguments = Arguments(2048, 64, "least_loaded")
    plan = space.plan(Candidate(Family("pd", 1, 2), (4, 2), arguments))
    assert (plan.num_prefill, plan.num_decode, plan.degrees, plan.num_gpus) == (4, 2, (1, 2), 8)
    assert plan.config.routing.prefill == "least_loaded"
    assert (plan.prefill_settings.max_num_batched_tokens, plan.decode_settings.max_num_seqs) == (2048, 64)
    plan = space.plan(Candidate(Family("unified", 2, 2), (3, 0), arguments))
    assert (plan.num_instances, plan.num_decode, plan.spec.tensor_parallel) == (3, 0, 2)


def test_nothing_fits_says_what_comes_nearest() -> None:
    with pytest.raises(CapacityError, match="no deployment fits 2 GPUs; the nearest is TP2: TP2 leaves a KV cache of"):
        _ = Space(question(LLAMA_70B, gpus=2)).families


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": None, "gpus": None}, "neither --rate nor --gpus"),
        ({"rate": None, "objective": "gpus"}, "--objective gpus needs --rate"),
        ({"objective": "rate"}, "--objective rate looks for the largest rate"),
        ({"gpus": 100_000}, "--gpus is 100000; allowed: 1 to 512"),
        ({"tiers": ("tape",)}, "--tiers has 'tape'; known: dram"),
        ({"line": "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct"}, "starts SGLang"),
    ],
)
def test_questions_that_contradict_themselves(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        question(**given)  # type: ignore[arg-type]
