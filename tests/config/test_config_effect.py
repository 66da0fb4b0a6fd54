"""What is set and not looked at is said."""

from __future__ import annotations

import pytest

from kvsim.config import load_config, shipped_profiles
from kvsim.config.effect import HBM, WITHOUT_TIERS, why_unseen, without_effect
from kvsim.content import content_path


def test_the_defaults_promise_nothing() -> None:
    assert without_effect(load_config().config, "pd") == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("policies.eviction=arc", "policies"),
        ("cluster.network.remote_ssd_latency_us=9", "cluster.network.remote_ssd_latency_us"),
        ("cluster.eic.nodes_per_rack=8", "cluster.eic"),
        ("routing.sees_tiers=false", "routing.sees_tiers"),
    ],
)
def test_a_setting_nobody_looks_at_is_named(given: str, named: str) -> None:
    assert without_effect(load_config(sets=[given]).config, "pd") == [named]
    assert named in WITHOUT_TIERS
    assert without_effect(load_config(sets=[given, "pd_separation.tiers=[dram]"]).config, "pd") == []


@pytest.mark.parametrize(
    ("sets", "key", "why"),
    [
        ((), "policies.eviction", "no tiers are in use (set pd_separation.tiers)"),
        ((), "cache.write_policy", "no tiers are in use (set pd_separation.tiers)"),
        ((), "cache.max_write_wait_s", "no tiers are in use (set pd_separation.tiers)"),
        ((), "cluster.ssd_scope", "no tiers are in use (set pd_separation.tiers)"),
        (("pd_separation.tiers=[dram]",), "policies.eviction", None),
        ((), "cache.tiers", "what a prefill/decode run has is pd_separation.tiers"),
        ((), "cache.prefix_cache", None),
        ((), "pd_separation.tiers", None),
        ((), "stepwise", None),
        (("steptime.method=roofline",), "steptime.pcie_allreduce_gb_per_s", "h100-sxm has NVLink"),
        (("steptime.method=roofline", "hardware.gpu=l40s"), "steptime.allreduce_efficiency", "l40s has no NVLink"),
        (("steptime.method=roofline",), "steptime.coefficients", "steptime.method is roofline"),
        ((), "steptime.compute_efficiency", "steptime.method is auto: another value needs 'roofline'"),
        ((), "steptime.coefficients", "steptime.method is auto: another value needs 'roofline'"),
        ((), "cluster.gpu.hbm_latency_ms", "no prefill/decode run looks at it"),
    ],
)
def test_why_nobody_looks_at_a_setting(sets: tuple[str, ...], key: str, why: str | None) -> None:
    assert why_unseen(load_config(sets=sets).config, key) == why


@pytest.mark.parametrize("mode", ["pd", "cluster", "single", "predict"])
def test_adapters_without_lora_are_named(mode: str) -> None:
    sets = ["load.lora_adapters=8", "engine.max_lora_rank=32"]
    assert without_effect(load_config(sets=sets).config, mode) == ["load.lora_adapters", "engine.max_lora_rank"]
    assert without_effect(load_config(sets=[*sets, "engine.enable_lora=true"]).config, mode) == []


def test_how_experts_are_shared_matters_where_they_are() -> None:
    moe, two = ("model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=1"), "engine.data_parallel_size=2"
    key, slow = "engine.all2all_backend", "steptime.collective_latency_us"
    cases = [
        ((), key, "llama-3.1-70b is no mixture of experts"),
        (moe, slow, "engine.data_parallel_size is 1"),
        ((*moe, two, "engine.share_experts=false"), slow, "engine.share_experts is false"),
        ((*moe, two), key, "engine.enable_expert_parallel is false: slices of experts are gathered for"),
        ((*moe, two), slow, None),
        ((*moe, two, "engine.enable_expert_parallel=true"), key, None),
    ]
    for sets, asked, why in cases:
        assert why_unseen(load_config(sets=sets).config, asked) == why
    assert without_effect(load_config(sets=[f"{key}=naive"]).config, "predict") == [key]


def test_a_setting_with_effect_is_not() -> None:
    assert without_effect(load_config(sets=["pd_separation.transfer.contention=none"]).config, "pd") == []


def test_tier_modes_name_what_they_do_not_look_at() -> None:
    assert without_effect(load_config().config, "cluster") == []
    jittery = ["cluster.network.jitter_cv=2", "hardware.dram.capacity_gb=5", "hardware.hbm.write_gb_per_s=9"]
    config = load_config(sets=jittery).config
    assert without_effect(config, "cluster") == ["hardware.hbm.write_gb_per_s"]
    named = ["hardware.hbm.write_gb_per_s", "cluster.network.jitter_cv"]
    assert without_effect(config, "single") == named
    pooled = load_config(sets=[*jittery, "cache.tiers=[eic]"]).config
    assert without_effect(pooled, "single") == named[:1]
    hosts_alone = load_config(sets=[*jittery, "cluster.tiers=[dram]"]).config
    assert without_effect(hosts_alone, "cluster") == named


def test_a_single_node_has_the_gpus_of_its_own_section() -> None:
    config = load_config(sets=["cluster.gpu.kv_capacity_gb=5"]).config
    assert without_effect(config, "cluster") == []
    assert without_effect(config, "single") == ["cluster.gpu.kv_capacity_gb"]


@pytest.mark.parametrize(
    ("sets", "named"),
    [
        (("steptime.pcie_allreduce_latency_us=9",), ["steptime.pcie_allreduce_latency_us"]),
        (("steptime.allreduce_latency_us=9",), []),
        (("hardware.gpu=l40s", "steptime.allreduce_latency_us=9"), ["steptime.allreduce_latency_us"]),
        (("hardware.gpu=l40s", "steptime.pcie_allreduce_latency_us=9"), []),
        (("steptime.compute_efficiency=0.5",), []),
        (("cluster.gpus_per_rack=32",), ["cluster.gpus_per_rack"]),
    ],
)
def test_step_times_name_what_they_do_not_look_at(sets: tuple[str, ...], named: list[str]) -> None:
    config = load_config(sets=sets).config
    assert without_effect(config, "pd") == named
    assert without_effect(config, "cluster") == named


def test_a_profile_leaves_data_sheets_aside() -> None:
    for profile in shipped_profiles():
        config = load_config(overlay=content_path("profiles", f"{profile}.yaml")).config
        assert [key for key in without_effect(config, "pd") if key not in HBM] == [], profile
    path = content_path("profiles", "h100_llama-3.1-70b_tp4_bf16.yaml")
    sets = ["steptime.compute_efficiency=0.5", "pd_separation.compute.prefill_tflops=500"]
    named = ["steptime.compute_efficiency", "pd_separation.compute.prefill_tflops"]
    assert without_effect(load_config(overlay=path, sets=sets).config, "pd") == named
