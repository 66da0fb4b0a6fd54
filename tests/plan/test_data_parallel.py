"""Which engines step together, with which times, by configuration and by launch line; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import Row, workload

from kvsim.capacity.demand import Demand, SharedPrompts
from kvsim.capacity.maximum_rates import balanced_pd_ratio
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.launch import read_launch_line
from kvsim.plan.data_parallel import fullest_of
from kvsim.plan.deployment import load_deployment
from kvsim.plan.explained import Explainer, explainer_of
from kvsim.plan.instance import Instance, instance_of
from kvsim.plan.plan import make_plan, unified_plan
from kvsim.plan.vllm_defaults import all2all_backend, dp_sync_interval
from kvsim.sim.run import Case, run
from kvsim.steptime.batch import Batch, Decodes
from kvsim.steptime.curves.lockstep import LockstepStepTime, steps_together, times_of_engine
from kvsim.steptime.curves.speculative import SpeculativeStepTime
from kvsim.steptime.operators import Operators, write_operators
from kvsim.validate.predict_load import at_version

QWEN = "vllm serve Qwen/Qwen3-30B-A3B"
MOE = ("model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=1", "engine.data_parallel_size=2")
WHOLE = (*MOE, "engine.enable_expert_parallel=true")


def built(*sets: str) -> Instance:
    return instance_of(load_config(sets=sets, mode="instance").config)


@pytest.mark.parametrize(
    ("line", "engines", "gpus"),
    [
        (f"{QWEN} -dp 2 -ep", 2, 2),
        (f"{QWEN} -dp 2", 2, 2),
        (f"{QWEN} -dp 2 -tp 2 -ep", 2, 4),
        (QWEN, 1, 1),
        (f"{QWEN} -tp 2 -ep", 1, 2),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct -dp 2", 1, 1),
        ("sglang serve --model-path Qwen/Qwen3-30B-A3B --dp-size 2", 1, 1),
        ("sglang serve --model-path Qwen/Qwen3-30B-A3B --tp-size 2 --dp-size 2 --enable-dp-attention", 2, 2),
    ],
)
def test_engines_of_a_mixture_of_experts_step_together(line: str, engines: int, gpus: int) -> None:
    """vLLM's dense engines are independent, as are SGLang's without data-parallel attention."""
    instance = instance_of(load_deployment(read_launch_line(line), gpu="h100-sxm").config)
    together = steps_together(instance.step_time)
    assert (1 if together is None else together.engines) == engines
    assert instance.spec.expert_parallel == gpus
    assert isinstance(instance.step_time, LockstepStepTime) == (engines > 1)


def test_a_launch_line_serves_as_its_step_times_say() -> None:
    """One request at a time, in steps that one engine of two has work in, until its answer is complete."""
    config = load_deployment(
        read_launch_line(f"{QWEN} -dp 2 -ep"), gpu="h100-sxm", sets=["load.warm_caches=false"]
    ).config
    plan = unified_plan(config, 2)
    rows = workload([Row(0.0, 1000, 3), Row(5.0, 2000, 1)])
    found = run(Case("unified", "unified", plan, rows, 1)).system.table
    own = times_of_engine(plan.step_time)
    prompts_s = [own.prefill_alone_s(tokens, 0) for tokens in (1000, 2000)]
    answer_s = own.decode_alone_s(1001) + own.decode_alone_s(1002)
    assert (found["first_token_s"] - found["arrival_s"]).tolist() == pytest.approx(prompts_s)
    assert found["finish_s"][0] == pytest.approx(prompts_s[0] + answer_s)


def test_slices_and_whole_experts_take_as_much_memory() -> None:
    whole, slices, alone = built(*WHOLE), built(*MOE), built(*MOE, "engine.share_experts=false")
    assert whole.spec.expert_bytes_per_gpu == slices.spec.expert_bytes_per_gpu
    assert alone.spec.expert_bytes_per_gpu == 2 * whole.spec.expert_bytes_per_gpu
    assert not isinstance(alone.step_time, LockstepStepTime)


def test_half_of_the_experts_on_each_of_two_gpus_beside_all_else() -> None:
    """Decodes of one engine of two take longer than half of one with all experts, and less than all of it."""
    alone, shared = (built(*sets, "hardware.gpu=h100-sxm").step_time for sets in (MOE[:2], WHOLE))
    for decodes in (8, 64, 256):
        one_s, two_s = (each.decode_span(decodes, 500 * decodes, 500)[0] for each in (alone, shared))
        assert one_s / 2 < two_s < one_s


def test_how_they_are_known_says_that_experts_are_split_by_arithmetic() -> None:
    nearest = built(*WHOLE).nearest
    assert nearest is not None
    assert nearest.level == "scaled"
    assert nearest.warning is not None
    assert nearest.warning.endswith(
        "over 2 GPUs and tokens exchanged by arithmetic, which was never held against a run"
    )


def test_drafts_are_verified_together_and_drafted_apart() -> None:
    times = built(*WHOLE, "engine.speculative.method=eagle3").step_time
    assert isinstance(times, SpeculativeStepTime)
    together, own = steps_together(times), times_of_engine(times)
    assert together is not None
    assert isinstance(own, SpeculativeStepTime)
    assert together.idle_tokens == 4
    gap_s = times.decode_span(8, 4000, 500)[0] - own.decode_span(8, 4000, 500)[0]
    assert gap_s == pytest.approx(together.shared.seconds(64, 32, 32), rel=1e-9)
    assert own.prefill_alone_s(100, 0) > own.mixed_s(100, 1, 0, 0, 0, own.chunk_work(100, 0))


def test_an_older_host_is_slower_for_each_engine() -> None:
    config = load_deployment(read_launch_line(f"{QWEN} -dp 2 -ep"), gpu="h100-sxm").config
    plan = unified_plan(config, 2)
    now, then = plan.step_time, at_version(plan, "0.11.0").step_time
    assert isinstance(now, LockstepStepTime)
    assert isinstance(then, LockstepStepTime)
    for times, other in ((then, now), (then.own, now.own)):
        more_s = times.decode_span(10, 5000, 500)[0] - other.decode_span(10, 5000, 500)[0]
        assert more_s == pytest.approx(0.4e-3 + 10 * 26e-6)
    assert at_version(plan, "0.32.0") is plan


def test_a_step_is_explained_with_what_engines_compute_together() -> None:
    loaded = load_deployment(read_launch_line(f"{QWEN} -dp 2 -ep"), gpu="h100-sxm")
    explainer, batch = explainer_of(loaded), Batch((Decodes(32, 1000),))
    found = explainer.explain(batch)
    assert explainer.engines_in_step == 2
    assert found.time_s == pytest.approx(batch.seconds(explainer.instance.step_time))
    assert found.time_s == pytest.approx(sum(part.time_s or 0.0 for part in found.parts))
    parts = {part.name: part for part in found.parts}
    assert {"experts", "exchange"} < parts.keys()
    assert "experts" not in {member.name for member in parts["layers"].members}
    assert all(part.limit_s <= (part.time_s or 0.0) for part in found.parts)


@pytest.mark.parametrize(
    ("more", "tokens", "bytes_of_token"),
    [  # Of 64 tokens on each of 4 engines, and of 2,048 values: there in 16 bits and sums back in as many.
        ("-tp 2", 4 - 1 / 2, 4),
        ("-tp 2 --all2all-backend naive", 4 - 1 / 2, 6),
        ("--all2all-backend deepep_low_latency", 8 * 3 / 4, 4),
        ("-tp 2 --all2all-backend deepep_low_latency", 8 * 7 / 8 / 2, 4),
        ("--all2all-backend deepep_high_throughput", 3 * (1 - (3 / 4) ** 8), 4),
        ("--quantization fp8", 4 - 1, 3),
    ],
)
def test_the_exchange_is_said_to_move_what_its_backend_does(more: str, tokens: float, bytes_of_token: int) -> None:
    loaded = load_deployment(
        read_launch_line(f"{QWEN} -dp 4 -ep {more}"), gpu="h100-sxm", sets=["engine.vllm_version=0.15.0"]
    )
    exchange = {part.name: part for part in explainer_of(loaded).explain(Batch((Decodes(64, 1000),))).parts}["exchange"]
    assert exchange.link_bytes == pytest.approx(48 * 64 * tokens * 2048 * bytes_of_token)
    assert exchange.limit_s == pytest.approx(exchange.link_bytes / 450e9)


def test_beyond_a_host_the_exchange_is_limited_by_the_nics() -> None:
    """Of 4 GPUs on 2 hosts each gets half of the other host's 128 tokens from its NIC, sold as 50 GB/s."""
    sets = ["cluster.network.gpus_per_host=2", "cluster.network.p2p_rdma_gb_per_s=50"]
    loaded = load_deployment(read_launch_line(f"{QWEN} -dp 4 -ep"), gpu="h100-sxm", sets=sets)
    exchange = {part.name: part for part in explainer_of(loaded).explain(Batch((Decodes(64, 1000),))).parts}["exchange"]
    assert exchange.limit_s == pytest.approx(48 * 64 * 3 * 2048 * 4 * (1 / 2) / 2 / 50e9)


@pytest.mark.parametrize(
    ("line", "experts", "tokens"),
    [  # A GPU reads its part of what is touched by all tokens, and computes with its part of them.
        (f"{QWEN} -dp 2 -ep", 128 * (1 - (1 - 8 / 128) ** 8), 8),
        (
            f"{QWEN} -dp 2 -ep --enable-eplb --eplb-config.num_redundant_experts 32",
            96 * (1 - (1 - 8 / 128) ** 8) + 2 * 32 * (1 - (1 - 8 / 128 / 2) ** 8),
            8,
        ),
    ],
)
def test_experts_are_said_to_be_read_with_their_copies(line: str, experts: float, tokens: int) -> None:
    loaded = load_deployment(read_launch_line(line), gpu="h100-sxm")
    explainer = explainer_of(loaded)
    found = {part.name: part for part in explainer.explain(Batch((Decodes(4, 1000),))).parts}["experts"]
    model = explainer.instance.spec.model
    passed = 2 * 4 * 2048 * 2 * 48
    assert found.num_bytes - passed == pytest.approx(model.expert_bytes("bf16") / 2 * experts / 128)
    assert found.flops == pytest.approx(2 * model.expert_params * 8 / 128 * tokens / 2)


def test_the_experts_that_are_explained_are_the_fullest_gpus() -> None:
    shares = ",".join(["3"] * 64 + ["1"] * 64)
    sets = ["engine.expert_load.distribution=measured", f"engine.expert_load.shares=[{shares}]"]
    even, uneven = (
        explainer_of(load_deployment(read_launch_line(f"{QWEN} -dp 2 -ep"), gpu="h100-sxm", sets=given)).explain(
            Batch((Decodes(4, 1000),))
        )
        for given in ((), sets)
    )
    flops = [next(part.flops for part in one.parts if part.name == "experts") for one in (even, uneven)]
    assert flops[1] == pytest.approx(1.5 * flops[0])


def test_half_an_all_reduce_is_left_where_whole_experts_are_shared() -> None:
    """Behind attention of 48 layers and the embedding one each; behind experts a gather, or all of one."""
    for more, count in ((" -ep", 49 + 24), ("", 97)):
        loaded = load_deployment(read_launch_line(f"{QWEN} -dp 2 -tp 2{more}"), gpu="h100-sxm")
        found = explainer_of(loaded).explain(Batch((Decodes(4, 1000),)))
        parts = [member for part in found.parts for member in (part, *part.members)]
        (moved,) = [part.link_bytes for part in parts if part.name == "allreduce"]
        assert moved == pytest.approx(count * 4 * 2048 * 2)


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        (None, "0.32.0", "allgather_reducescatter"),
        (None, "0.10.2", "naive"),
        (None, "", "allgather_reducescatter"),
        ("pplx", "0.15.1", "pplx"),
        ("pplx", "0.16.0", "allgather_reducescatter"),
        ("deepep_low_latency", "0.10.0", "deepep_low_latency"),
    ],
)
def test_the_backend_is_the_versions(given: str | None, version: str, expected: str) -> None:
    assert all2all_backend(given, version) == expected


def test_engines_ask_each_other_more_often_in_present_versions() -> None:
    assert (dp_sync_interval("0.26.0"), dp_sync_interval("0.27.0"), dp_sync_interval("")) == (32, 16, 16)


def test_a_line_says_how_experts_are_shared() -> None:
    line = read_launch_line(
        f"{QWEN} -dp 4 -ep --all2all-backend deepep_high_throughput --enable-eplb --dp-sync-interval 4 "
        "--eplb-config.num_redundant_experts 32"
    )
    engine = load_deployment(line, gpu="h100-sxm").config.engine
    assert line.warnings == ()
    assert engine.all2all_backend == "deepep_high_throughput"
    assert (engine.enable_eplb, engine.num_redundant_experts, engine.dp_sync_interval) == (True, 32, 4)
    older = load_deployment(read_launch_line("docker run vllm/vllm-openai:v0.10.0 --model Qwen/Qwen3-30B-A3B -dp 2"))
    assert older.config.engine.dp_sync_interval == 32


def test_ratios_of_roles_and_pilots_are_of_whole_groups() -> None:
    sets = (*WHOLE, "cluster.simulate_racks=1", "pd_separation.pd_ratio=[1,3]")
    plan = make_plan(load_config(preset="smoke", sets=sets).config)
    prompts = np.full(100, 2000.0)
    for output_tokens in (10.0, 200.0, 900.0):
        shared = SharedPrompts(np.zeros(0), np.zeros(0), 2000.0)
        demand = Demand(prompts, np.full(100, output_tokens), np.zeros(100), prompts, 0.0, shared)
        prefill, decode = balanced_pd_ratio(plan, demand)
        assert (prefill + decode, prefill % 2, decode % 2) == (plan.num_instances, 0, 0)
    for instances in (3, 5, 7):
        small = plan.scaled_to(instances)
        assert (small.num_instances % 2, small.num_prefill % 2, small.num_decode % 2) == (0, 0, 0)
        assert replace(plan, num_prefill=0, num_decode=0).scaled_to(instances).num_instances == instances + 1


def test_exchanges_wait_no_less_and_carry_no_more_than_all_reduces() -> None:
    """Of two GPUs without NVLink the all-reduce is what was measured, of NVLink's the collectives wait longer."""
    for gpu, key in (("l40s", "pcie_allreduce_latency_us"), ("h100-sxm", "allreduce_latency_us")):
        sets = (*WHOLE, f"hardware.gpu={gpu}", f"steptime.{key}=100", "engine.num_gpu_blocks_override=1000")
        times = built(*sets, "steptime.method=roofline").step_time
        assert isinstance(times, LockstepStepTime)
        assert times.shared.latency_s == pytest.approx(48 * 100e-6)
    times = built(*WHOLE, "hardware.gpu=h100-sxm").step_time
    assert isinstance(times, LockstepStepTime)
    assert times.shared.latency_s == pytest.approx(48 * 2 * (4 + 2 * 0.9) * 1e-6)
    assert times.shared.s_per_token == pytest.approx(48 * 2048 * 4 / (450e9 * 0.8))


def factor(*sets: str) -> float:
    config = load_config(sets=(*WHOLE, *sets), mode="instance").config
    return fullest_of(config, instance_of(config).spec)


def test_loads_of_experts_are_a_factor_of_the_fullest_gpu() -> None:
    assert factor() == 1.0
    steep = factor("engine.expert_load.distribution=power_law")
    assert steep > factor("engine.expert_load.distribution=power_law", "engine.expert_load.exponent=0.5") > 1
    assert factor("engine.expert_load.distribution=power_law", "engine.enable_eplb=true") < steep
    shares = ",".join(["3"] * 64 + ["1"] * 64)
    assert factor("engine.expert_load.distribution=measured", f"engine.expert_load.shares=[{shares}]") == 1.5
    even, uneven = (
        built(*WHOLE, *sets).step_time.decode_span(64, 64000, 1000)[0]
        for sets in ((), ("engine.expert_load.distribution=power_law",))
    )
    assert uneven > even


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ((*MOE, "engine.enable_eplb=true"), r"engine\.enable_eplb = true needs engine\.enable_expert_parallel = true"),
        ((*WHOLE, "engine.num_redundant_experts=2"), "num_redundant_experts = 2: must be 0 without engine"),
        (
            (*WHOLE, "engine.enable_eplb=true", "engine.num_redundant_experts=3"),
            r"num_redundant_experts = 3: with the 128 experts of qwen3-30b-a3b it must make a multiple of the 2 GPUs",
        ),
        ((*MOE, "engine.expert_load.distribution=power_law"), r"distribution = power_law: must be uniform unless"),
        ((*WHOLE, "engine.expert_load.distribution=measured"), r"shares: must be the tokens of each expert"),
        ((*WHOLE, "engine.expert_load.shares=[1,2]"), r"shares: must be \[\] unless the distribution is measured"),
        (
            (*WHOLE, "engine.expert_load.distribution=measured", "engine.expert_load.shares=[1,2]"),
            r"shares has 2 numbers: must have one for each of the 128 experts of qwen3-30b-a3b",
        ),
        (
            (*WHOLE, "engine.expert_load.distribution=measured", "engine.expert_load.shares=[0,0]"),
            r"shares: all are 0; must have one above 0",
        ),
        (
            (*WHOLE, "model.name=mixtral-8x7b", "engine.data_parallel_size=16"),
            "16 GPUs share the 8 experts of mixtral-8x7b, whole ones each: must be at most as many",
        ),
        (
            ("model.name=mixtral-8x7b", "engine.tensor_parallel_size=16", "engine.enable_expert_parallel=true"),
            "16 GPUs share the 8 experts of mixtral-8x7b",
        ),
        (
            (
                *("model.name=mixtral-8x7b", "engine.tensor_parallel_size=4", "engine.enable_expert_parallel=true"),
                *("engine.enable_eplb=true", "engine.num_redundant_experts=2"),
            ),
            "must make a multiple of the 4 GPUs",
        ),
        ((*WHOLE, "engine.all2all_backend=deepep"), r"engine\.all2all_backend"),
        ((*WHOLE, "engine.dp_sync_interval=0"), r"engine\.dp_sync_interval"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(sets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(*sets)


def test_no_gpu_has_a_part_of_a_whole_expert() -> None:
    """Of 8 experts on 6 GPUs two have 2 each, on 5 three; one of 60 on 8 has 8; slices and copies divide."""
    mixtral = ("model.name=mixtral-8x7b", "hardware.gpu=h200", "engine.tensor_parallel_size=1")
    for engines, experts in ((4, 2), (5, 2), (6, 2), (8, 1)):
        sets = (*mixtral, f"engine.data_parallel_size={engines}", "engine.enable_expert_parallel=true")
        instance = built(*sets)
        spec, bytes_of_all = instance.spec, instance.spec.model.expert_bytes("bf16")
        assert spec.expert_bytes_per_gpu == pytest.approx(bytes_of_all * experts / 8)
        assert fullest_of(load_config(sets=sets, mode="instance").config, spec) == pytest.approx(experts * engines / 8)
    sliced = built(*mixtral, "engine.data_parallel_size=6").spec
    assert sliced.expert_bytes_per_gpu == pytest.approx(sliced.model.expert_bytes("bf16") / 6)
    copied = built(
        *(*mixtral, "engine.data_parallel_size=6", "engine.enable_expert_parallel=true"),
        *("engine.enable_eplb=true", "engine.num_redundant_experts=4"),
    ).spec
    assert copied.loaded_weight_bytes_per_gpu - copied.weight_bytes_per_gpu == pytest.approx(
        copied.model.expert_bytes("bf16") * (2 - 8 / 6) / 8 + copied.model.extra_bytes
    )


def test_the_gpu_with_one_more_expert_takes_so_much_longer() -> None:
    """Of 6 GPUs that with 2 of 8 experts has as many as one of 4: as long for as many tokens in all."""
    times = {}
    for engines in (4, 6):
        sets = ("model.name=mixtral-8x7b", "hardware.gpu=h200", f"engine.data_parallel_size={engines}")
        step_time = built(*sets, "engine.tensor_parallel_size=1", "engine.enable_expert_parallel=true").step_time
        assert isinstance(step_time, LockstepStepTime)
        times[engines] = [step_time.shared.experts_s(tokens) for tokens in (12, 240, 4800)]
    assert times[6] == pytest.approx(times[4], rel=0.01)


@pytest.mark.parametrize("sets", [WHOLE, MOE], ids=["whole", "slices"])
def test_tables_have_the_experts_of_a_gpu(sets: tuple[str, ...], tmp_path: Path) -> None:
    """A layer's experts take 1 us a token on the GPU and 2 us an expert that is touched; all else 100 us."""
    moe = np.array([[t, e, (t + 2 * e) * 1e-6] for t in (1.0, 4096.0) for e in (1.0, 128.0)])
    attention = [(c, p, 0, 0, 1e-5) for c in (1, 4096) for p in (0, 4096)] + [
        (0, 0, n, k, 1e-5) for n in (1, 512) for k in (1, 8192)
    ]
    line = np.array([[1.0, 1e-4], [8192.0, 1e-4]])
    operators = Operators({"qkv_proj": line}, {"lm_head": line}, np.array(attention, dtype=np.float64), moe=moe)
    path = tmp_path / "operators.parquet"
    with path.open("wb") as file:
        write_operators(operators, file)
    tables = (f"steptime.operators={path}", "steptime.method=tables", "hardware.gpu=h100-sxm")
    loaded = load_config(sets=(*sets, *tables), mode="instance")
    instance = instance_of(loaded.config)
    times = instance.step_time
    assert isinstance(times, LockstepStepTime)
    touched = 128 * (1 - (1 - 8 / 128) ** 200)
    on_gpu = (100 + 2 * touched / 2) * 1e-6
    starts = 0.0 if sets == WHOLE else 48 * 3e-6 / 2
    assert times.shared.experts_s(200) == pytest.approx(48 * on_gpu + starts, rel=0.01)
    own_s = (48 * (100 + 10) + 100 + 500 + 2 * 100) * 1e-6
    assert times.own.decode_span(100, 100_000, 1000)[0] == pytest.approx(own_s)
    found, batch = Explainer(loaded, instance).explain(Batch((Decodes(100, 1000),))), Batch((Decodes(100, 1000),))
    assert found.time_s == pytest.approx(batch.seconds(times))
    assert found.time_s == pytest.approx(sum(part.time_s or 0.0 for part in found.parts))
    without = replace(operators, moe=np.zeros((0, 3)))
    with path.open("wb") as file:
        write_operators(without, file)
    with pytest.raises(ConfigError, match=r"steptime\.operators has no experts' table"):
        instance_of(load_config(sets=(*sets, *tables, "seed=1"), mode="instance").config)
