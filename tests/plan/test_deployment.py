"""A server's line becomes a configuration: of one deployment, or below the modes' own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.modes.variants import Layers
from kvsim.plan.deployment import launch_of, load_deployment, server_keys
from kvsim.plan.mode import CLUSTER, PD, PREDICT

LINE = "vllm serve meta-llama/Llama-3.1-70B-Instruct -tp 4 --max-num-seqs 128 --kv-cache-dtype fp8"


def test_a_line_makes_as_many_instances_as_asked() -> None:
    loaded = load_deployment(launch_of(LINE, None), gpu="H100", instances=3)
    plan = PREDICT.plan(loaded.config)
    assert (plan.num_instances, plan.num_gpus, plan.num_prefill, plan.num_decode) == (3, 12, 0, 0)
    assert plan.colocated_settings.max_num_seqs == 128
    assert (plan.spec.kv_dtype, plan.spec.weight_dtype, plan.spec.gpu.name) == ("fp8", "bf16", "h100-sxm")
    assert loaded.config.model.max_model_len == 131_072


def test_engines_of_one_server_count_each() -> None:
    loaded = load_deployment(launch_of("vllm serve Qwen/Qwen3-30B-A3B -dp 2", None), instances=2)
    assert PREDICT.plan(loaded.config).num_instances == 4


def test_what_the_checkpoint_says_stands_where_the_line_does_not() -> None:
    quantised = load_deployment(
        launch_of("vllm serve deepseek-ai/DeepSeek-R1 -tp 8 --dtype bfloat16", None), gpu="h200"
    )
    assert quantised.config.model.weight_dtype == "fp8"  # --dtype is that of activations
    asked = load_deployment(launch_of("vllm serve meta-llama/Llama-3.1-8B --quantization fp8", None))
    assert asked.config.model.weight_dtype == "fp8"


def test_assignments_come_last_and_errors_name_the_line() -> None:
    launch = launch_of(LINE, None)
    assert load_deployment(launch, sets=["engine.max_num_seqs=7"]).config.engine.max_num_seqs == 7
    bad = launch_of("vllm serve meta-llama/Llama-3.1-8B --watermark 2", None)
    with pytest.raises(ConfigError, match=r"^the server's command line: engine.watermark = 2.0: must be less than 1"):
        load_deployment(bad)


@pytest.mark.parametrize(
    ("gpus", "racks", "rack"), [(16, 1, 16), (64, 1, 64), (128, 2, 64), (192, 3, 64), (100, 2, 50), (12, 1, 12)]
)
def test_gpus_are_racks_of_whole_instances(gpus: int, racks: int, rack: int) -> None:
    degree = 4 if gpus % 4 == 0 and gpus != 100 else 2
    given = server_keys("pd", None, gpus=gpus, tensor_parallel=degree)
    assert given is not None
    assert given.values["cluster.simulate_racks"] == racks
    assert given.values["cluster.simulate_gpus_per_rack"] == rack
    sets = ("model.name=llama-3.1-8b", "cluster.network.gpus_per_host=2")
    plan = PD.plan(Layers(engine=given, sets=sets).load("pd").config)
    assert plan.num_gpus == gpus


def test_the_modes_take_the_line_below_their_settings() -> None:
    given = server_keys("pd", launch_of(LINE, None), gpus=64)
    config = Layers(engine=given, sets=("engine.max_num_seqs=9",)).load("pd").config
    assert (config.engine.tensor_parallel_size, config.engine.max_num_seqs, config.model.kv_dtype) == (4, 9, "fp8")
    assert config.engine.tune_colocated_budget
    budget = server_keys("pd", launch_of(f"{LINE} --max-num-batched-tokens 4096", None))
    assert budget is not None and budget.values["engine.tune_colocated_budget"] is False
    assert server_keys("pd", None) is None
    single = server_keys("single", None, gpus=8, tensor_parallel=2)
    assert single is not None and single.values["cache.num_workers"] == 4


@pytest.mark.parametrize(
    ("layers", "version", "batched"),
    [
        ({}, "0.32.0", 8192),
        ({"sets": ("engine.vllm_version=0.12.0",)}, "0.12.0", 8192),
        ({"config": {"engine": {"vllm_version": "0.12.0"}}}, "0.12.0", 8192),
        ({"sets": ("hardware.gpu=l4",)}, "0.32.0", 2048),
        ({"config": {"hardware": {"gpu": "l4"}}}, "0.32.0", 2048),
        ({"config": {"hardware": {"gpu": "l4"}}, "sets": ("hardware.gpu=h100-sxm",)}, "0.32.0", 8192),
    ],
)
def test_what_a_server_takes_is_that_of_its_version_and_gpu(layers: dict[str, Any], version: str, batched: int) -> None:
    """Whoever says them: before 0.14 nothing is scheduled ahead, and before 0.20 a tenth of the memory is left."""
    launch = launch_of("vllm serve meta-llama/Llama-3.1-8B-Instruct --kv-offloading-size 8", None)
    for mode in (PD, CLUSTER):
        loaded = Layers(**layers).with_server(mode.name, launch, None, 8, None).load(mode.name)
        engine = loaded.config.engine
        assert (engine.vllm_version, engine.max_num_batched_tokens) == (version, batched)
        assert engine.async_scheduling == (version == "0.32.0")
        assert engine.gpu_memory_utilization == (0.92 if version == "0.32.0" else 0.9)
        assert engine.disable_hybrid_kv_cache_manager == (None if version == "0.32.0" else True)
    if "config" not in layers:
        engine = load_deployment(launch, sets=layers.get("sets", ())).config.engine
        assert (engine.vllm_version, engine.max_num_batched_tokens) == (version, batched)


def test_the_lines_version_is_above_the_files_and_below_assignments() -> None:
    launch = launch_of("docker run vllm/vllm-openai:v0.19.0 --model meta-llama/Llama-3.1-8B-Instruct", None)
    file = {"engine": {"vllm_version": "0.12.0"}}
    for sets, version in (((), "0.19.0"), (("engine.vllm_version=0.11.0",), "0.11.0")):
        layers = Layers(config=file, sets=sets).with_server("pd", launch, None, 8, None)
        assert layers.load("pd").config.engine.vllm_version == version


def test_assigned_degrees_make_as_many_instances() -> None:
    launch = launch_of("vllm serve Qwen/Qwen3-30B-A3B -ep", None)
    for sets, gpus, instances in (
        (("engine.tensor_parallel_size=2",), 2, 1),
        (("engine.data_parallel_size=2",), 2, 2),
        (("engine.tensor_parallel_size=2", "engine.data_parallel_size=4"), 8, 4),
    ):
        plan = PREDICT.plan(load_deployment(launch, sets=sets).config)
        assert (plan.num_gpus, plan.num_instances) == (gpus, instances)
    layers = Layers(sets=("engine.tensor_parallel_size=2",)).with_server("single", None, None, 6, None)
    assert layers.load("single").config.cache.num_workers == 3


def test_gpus_that_no_whole_instances_take() -> None:
    with pytest.raises(ConfigError, match="--gpus is 6; allowed: a multiple of the 4 GPUs of an instance"):
        server_keys("pd", None, gpus=6)


def test_arguments_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "args.yaml"
    path.write_text("model: meta-llama/Llama-3.1-8B\nmax-num-seqs: 32\n")
    assert load_deployment(launch_of(None, path)).config.engine.max_num_seqs == 32
    with pytest.raises(ConfigError, match="exclude each other"):
        launch_of(LINE, path)
    with pytest.raises(ConfigError, match="no server is given"):
        launch_of(None, None)
