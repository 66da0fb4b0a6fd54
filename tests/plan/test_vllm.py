"""vLLM's arguments as kvsim's keys and as an engine's settings: its names, its defaults, and one line for bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.plan.instance import instance_of, load_instance
from kvsim.plan.vllm import capture_sizes, engine_keys, is_async, scheduler_settings, step_time_of_version

RECORDED = {"num_blocks": 41, "block_size": 16, "max_num_batched_tokens": 256, "max_num_seqs": 8, "max_model_len": 512}


def keys(**arguments: Any) -> dict[str, Any]:
    return engine_keys(Fields("meta.json", arguments, "engine_kwargs."), "0.19.0", 8000)


def test_defaults_are_vllm_s() -> None:
    assert capture_sizes(4) == [1, 2, 4, 8]
    assert capture_sizes(1024)[-3:] == [480, 496, 512]
    assert (is_async("0.13.1"), is_async("0.14.0"), is_async("0.19.0rc1"), is_async("")) == (False, True, True, True)
    found = keys(max_num_seqs=4096, async_scheduling=False, enforce_eager=True)
    assert found["engine.max_num_seqs"] == 4096
    assert found["engine.max_num_batched_tokens"] == 8192
    assert found["engine.async_scheduling"] is False
    assert found["engine.cudagraph_capture_sizes"] == []
    assert found["model.max_model_len"] == 8000
    assert "engine.num_gpu_blocks_override" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_seqs": "many"}, "engine_kwargs.max_num_seqs = 'many': must be a whole number from 1"),
        ({"max_num_seqs": True}, "engine_kwargs.max_num_seqs = True: must be a whole number from 1"),
        ({"enforce_eager": "no"}, "engine_kwargs.enforce_eager = 'no': must be true or false"),
        ({"dtype": ["fp8"]}, r"engine_kwargs.dtype = \['fp8'\]: must be one of auto, bfloat16"),
        ({"gpu_memory_utilization": 0}, "gpu_memory_utilization = 0: must be a number above 0 and at most 1"),
        ({"gpu_memory_utilization": 1.01}, "gpu_memory_utilization = 1.01: must be a number above 0 and at most 1"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^meta.json: .*{message}"):
        keys(**arguments)


def test_an_engine_is_the_same_however_it_is_told() -> None:
    """A scheduler that was recorded, and a server with the same arguments: the same settings."""
    arguments = {name: value for name, value in RECORDED.items() if name != "num_blocks"}
    arguments |= {"num_gpu_blocks_override": 41, "scheduling_policy": "priority", "async_scheduling": True}
    loaded = load_instance("llama-3.1-8b", Fields("", arguments), sets=["engine.scheduler_reserve_full_isl=true"])
    recorded = RECORDED | {"policy": "priority", "async_scheduling": True}
    assert instance_of(loaded.config).settings == scheduler_settings(Fields("", recorded))


def test_a_recorded_scheduler_needs_its_sizes() -> None:
    for name in RECORDED:
        with pytest.raises(ConfigError, match=f"^config.{name} = None: must be a whole number from"):
            scheduler_settings(Fields("", RECORDED | {name: None}, "config."))
    with pytest.raises(ConfigError, match=r"config\.watermark = 1: must be"):
        scheduler_settings(Fields("", RECORDED | {"watermark": 1}, "config."))


def test_sets_come_last_and_gpus_are_those_of_the_engines() -> None:
    arguments = Fields("", {"tensor_parallel_size": 2, "data_parallel_size": 4})
    config = load_instance("qwen3-32b", arguments, sets=["engine.max_num_seqs=3"]).config
    assert (config.engine.max_num_seqs, config.engine.max_num_batched_tokens) == (3, 8192)
    assert config.cluster.total_gpus == config.cluster.network.gpus_per_host == 8


def test_older_engines_take_host_time_between_steps() -> None:
    profile = Path("h100_llama-3.1-8b_tp1_bf16")
    steps = instance_of(load_instance("llama-3.1-8b", Fields("", {}), profile=profile).config).step_time
    older, newer = (step_time_of_version(steps.coefficients, version, (1, 2)) for version in ("0.13", "0.14"))
    assert older.decode_span(10, 1000, 100)[0] - newer.decode_span(10, 1000, 100)[0] == pytest.approx(660e-6)
