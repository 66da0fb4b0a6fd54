"""Which of two keys wins, and what follows from the configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.config import derived as d
from kvsim.config import load_config
from kvsim.errors import ConfigError


def config(*sets):
    return load_config(sets=sets).config


def test_defaults():
    defaults = config()
    assert d.params_billions(defaults) is None
    assert d.kv_bytes_per_token_override(defaults) is None
    assert d.kv_capacity_bytes_per_gpu_override(defaults) is None
    assert d.hbm_read_bytes_per_s_override(defaults) is None
    assert d.num_requests(defaults) is None
    assert d.block_size(defaults) == 16
    assert d.nic_bytes_per_s_per_gpu(defaults) == pytest.approx(38e9)
    assert d.nic_latency_s(defaults) == pytest.approx(5e-6)
    assert d.prefill_token_budget(defaults) == 8192
    assert (d.simulated_gpus(defaults), d.instances(defaults), d.pd_counts(defaults)) == (10240, 2560, (640, 1920))


def test_the_kv_budget_in_bytes_is_the_least_specific_of_its_keys():
    budget, capacity = "engine.kv_cache_memory_bytes=7000000", "hardware.hbm.kv_capacity_gb=5"
    assert d.kv_capacity_bytes_per_gpu_override(config(budget)) == 7e6
    assert d.kv_capacity_key(config(budget)) == "engine.kv_cache_memory_bytes"
    for both in ((budget, capacity), (capacity, budget)):
        assert d.kv_capacity_bytes_per_gpu_override(config(*both)) == 5e9
        assert d.kv_capacity_key(config(*both)) == "hardware.hbm.kv_capacity_gb"
    assert d.kv_capacity_key(config("cluster.gpu.kv_capacity_gb=5", budget)) == "cluster.gpu.kv_capacity_gb"


PAIRS = [
    (d.params_billions, "model.params_billions", "pd_separation.compute.model_params_b", 7.0, 8.0, 1),
    (d.kv_bytes_per_token_override, "model.kv_bytes_per_token", "pd_separation.compute.kv_bytes_per_token", 7, 8, 1),
    (d.block_size, "engine.block_size", "pd_separation.compute.tokens_per_block", 32, 64, 1),
    (d.kv_capacity_bytes_per_gpu_override, "hardware.hbm.kv_capacity_gb", "cluster.gpu.kv_capacity_gb", 5, 6, 1e9),
    (d.hbm_read_bytes_per_s_override, "hardware.hbm.read_gb_per_s", "cluster.gpu.hbm_read_gb_per_s", 5, 6, 1e9),
    (
        d.nic_bytes_per_s_per_gpu,
        "cluster.network.p2p_rdma_gb_per_s",
        "pd_separation.transfer.rdma_gb_per_s",
        10,
        20,
        0.76e9,
    ),
    (d.nic_latency_s, "cluster.network.p2p_rdma_latency_us", "pd_separation.transfer.rdma_latency_us", 3, 4, 1e-6),
    (d.num_requests, "pd_experiments.num_requests", "pd_trace.num_requests", 10, 20, 1),
    (d.traffic_seed, "seed", "pd_trace.seed", 1, 2, 1),
]


@pytest.mark.parametrize(("accessor", "general", "specific", "low", "high", "unit"), PAIRS)
def test_the_more_specific_key_wins_within_a_source_and_the_later_source_over_all(
    tmp_path, accessor, general, specific, low, high, unit
):
    assert accessor(config(f"{general}={low}")) == pytest.approx(low * unit)
    assert accessor(config(f"{specific}={high}")) == pytest.approx(high * unit)
    assert accessor(config(f"{specific}={high}", f"{general}={low}")) == pytest.approx(high * unit)
    file = tmp_path / "c.yaml"
    tree = str(high)
    for key in reversed(specific.split(".")):
        tree = f"{{{key}: {tree}}}"
    file.write_text(tree, encoding="utf-8")
    loaded = load_config(file, sets=[f"{general}={low}"])
    assert accessor(loaded.config) == pytest.approx(low * unit)
    assert any(f"{general} replaces {specific} = {high}" in note for note in loaded.provenance.notes)


def test_block_bytes_alone_give_the_kv_size():
    assert d.kv_bytes_per_token_override(config("cache.block_size_bytes=5242880")) == 327680
    consistent = config("cache.block_size_bytes=5242880", "model.kv_bytes_per_token=327680")
    assert d.kv_bytes_per_token_override(consistent) == 327680


def test_prefill_token_budget():
    assert d.prefill_token_budget(config("pd_separation.chunk_size_tokens=512")) == 512
    whole = config("pd_separation.chunk_size_tokens=512", "pd_separation.chunked_prefill=false")
    assert d.prefill_token_budget(whole) == 131072
    short = config("pd_separation.chunked_prefill=false", "model.max_model_len=4096")
    assert d.prefill_token_budget(short) == 8192


def cluster(instances, ratio):
    racks = f"cluster={{simulate_racks: {instances}, simulate_gpus_per_rack: 4}}"
    return config(racks, f"pd_separation.pd_ratio={list(ratio)}")


@pytest.mark.parametrize(
    ("instances", "ratio", "counts"),
    [
        (4, (1, 3), (1, 3)),
        (2, (1, 99), (1, 1)),
        (2, (99, 1), (1, 1)),
        (10, (1, 3), (3, 7)),  # 2.5: half up
        (7, (1, 3), (2, 5)),
        (64, (4, 1), (51, 13)),
    ],
)
def test_ratios_round_to_whole_instances(instances, ratio, counts):
    assert d.pd_counts(cluster(instances, ratio)) == counts


FOUR_GPU_RACKS = config("cluster.simulate_gpus_per_rack=4")


@given(st.integers(2, 3000), st.integers(1, 50), st.integers(1, 50))
def test_counts_use_every_instance_and_stay_near_the_ratio(instances, prefill, decode):
    racks = FOUR_GPU_RACKS.cluster.model_copy(update={"simulate_racks": instances})
    scaled = FOUR_GPU_RACKS.model_copy(update={"cluster": racks})
    num_prefill, num_decode = d.pd_counts(scaled, (prefill, decode))
    assert num_prefill + num_decode == instances and min(num_prefill, num_decode) >= 1
    exact = instances * prefill / (prefill + decode)
    assert abs(num_prefill - exact) <= 0.5 or 1 in (num_prefill, num_decode)


def test_one_instance_cannot_be_separated():
    with pytest.raises(ConfigError, match=r"needs 2 instances or more; 4 simulated GPUs are fewer than 4 \+ 4"):
        d.pd_counts(cluster(1, (1, 3)))
