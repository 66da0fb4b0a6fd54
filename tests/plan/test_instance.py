"""An instance is what the configuration says in each role, and a plan is made of instances alone."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.engine_settings import EngineSettings, KvGroup
from kvsim.plan.instance import instance_of
from kvsim.plan.mode import CLUSTER, SINGLE
from kvsim.plan.plan import make_plan, unified_plan

OWN = (
    "engine.max_num_batched_tokens=4096",
    "engine.batching=static",
    "pd_separation.chunk_size_tokens=1024",
    "pd_separation.output_margin_tokens=77",
    "pd_separation.decode_tensor_parallel_size=2",
)


def test_roles_differ_in_what_their_keys_say_and_in_nothing_else() -> None:
    config = load_config(sets=OWN).config
    colocated, prefill, decode = (instance_of(config, role) for role in ("colocated", "prefill", "decode"))
    assert (colocated.degree, prefill.degree, decode.degree) == (4, 4, 2)
    budgets = [own.settings.max_num_batched_tokens for own in (colocated, prefill, decode)]
    assert budgets == [4096, 1024, 4096]
    assert [own.settings.batching for own in (colocated, prefill, decode)] == ["static", "static", "continuous"]
    assert [own.settings.output_margin_tokens for own in (colocated, prefill, decode)] == [0, 0, 77]
    assert colocated.nic_bytes_per_s == prefill.nic_bytes_per_s == 2 * decode.nic_bytes_per_s
    for own in (colocated, prefill, decode):
        assert own.settings.num_blocks == own.spec.num_blocks - 1


def test_step_times_are_shared_where_the_degree_is_the_same() -> None:
    plan = make_plan(load_config(sets=OWN).config)
    assert plan.prefill.step_time is plan.colocated.step_time
    assert plan.decode.step_time.decode_alone_s(1000) > plan.colocated.step_time.decode_alone_s(1000)


def test_a_degree_without_room_or_without_a_profile_names_its_key() -> None:
    small = load_config(sets=["pd_separation.decode_tensor_parallel_size=1"]).config
    with pytest.raises(CapacityError, match=r"pd_separation.decode_tensor_parallel_size \d would fit"):
        instance_of(small, "decode")
    flags = ["model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "pd_separation.prefill_tensor_parallel_size=2"]
    profiled = load_config(sets=flags).config
    assert instance_of(profiled, "prefill").degree == 2
    fitted = profiled.model_copy(update={"steptime": profiled.steptime.model_copy(update={"method": "fitted"})})
    with pytest.raises(ConfigError, match=r"pd_separation\.prefill_tensor_parallel_size = 2 beside"):
        instance_of(fitted, "prefill")


def test_one_instance_needs_no_room_for_another() -> None:
    """A unified plan has as many GPUs as its instances, and describes no more."""
    config = load_config(sets=["cache.num_workers=1", "cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=4"])
    alone, racks = SINGLE.plan(config.config), CLUSTER.plan(config.config)
    for plan in (alone, racks, unified_plan(config.config, 1)):
        assert (plan.num_instances, plan.num_gpus, plan.num_prefill, plan.num_decode) == (1, 4, 0, 0)
    assert alone.config.cluster.total_gpus == 4
    with pytest.raises(ConfigError, match="needs 2 instances or more"):
        make_plan(racks.config)


def engine_of(*sets: str) -> EngineSettings:
    known = ("hardware.gpu=h200-sxm", "engine.tensor_parallel_size=8", "model.max_model_len=32768")
    return instance_of(load_config(sets=known + sets).config).settings


def test_layers_with_windows_have_groups_as_vllm_has_them() -> None:
    full = KvGroup("full")
    assert engine_of("model.name=gpt-oss-120b").kv_groups == (KvGroup("window", 128), full)
    assert engine_of("model.name=gemma-3-27b").kv_groups == (KvGroup("window", 1024),) * 6 + (full,)
    assert engine_of("model.name=phi-3-medium").kv_groups == (KvGroup("window", 2047),)
    assert engine_of("model.name=phi-4-mini").kv_groups == ()
    assert engine_of("model.name=llama-3.1-70b").kv_groups == ()


def test_the_hybrid_manager_can_be_switched() -> None:
    on, off = "engine.disable_hybrid_kv_cache_manager=false", "engine.disable_hybrid_kv_cache_manager=true"
    grouped, whole = engine_of("model.name=gpt-oss-120b"), engine_of("model.name=gpt-oss-120b", off)
    assert whole.kv_groups == ()
    # A block is of 18 layers in place of 36.
    assert (grouped.num_blocks + 1) // 2 == whole.num_blocks + 1
    # Versions before 0.14 took the manager for slow where attention is in chunks.
    assert engine_of("model.name=llama-4-scout", "engine.vllm_version=0.13.0").kv_groups == ()
    assert engine_of("model.name=llama-4-scout", on).kv_groups == (KvGroup("chunk", 8192),) * 3 + (KvGroup("full"),)
    assert engine_of("model.name=gpt-oss-120b", "cache.prefix_cache=radix").kv_groups == ()


def test_beside_tiers_all_layers_keep_every_token() -> None:
    sets = ("model.name=gpt-oss-120b", "engine.tensor_parallel_size=1")
    config = load_config(sets=sets).config
    grouped, tiered = unified_plan(config, 1), unified_plan(config, 1, ("dram",))
    assert grouped.colocated_settings.kv_groups and not tiered.colocated_settings.kv_groups
    assert tiered.colocated_settings.num_blocks == tiered.spec.num_blocks - 1


def test_a_model_of_groups_that_does_not_fit_is_refused() -> None:
    sets = ("model.name=gpt-oss-120b", "hardware.gpu=l4", "engine.tensor_parallel_size=1")
    with pytest.raises(CapacityError, match=r"^gpt-oss-120b \(bf16\) does not fit 1 x l4: "):
        instance_of(load_config(sets=sets, mode="instance").config)
