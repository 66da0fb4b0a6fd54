"""Configurations and overlays written for kvcache-sim."""

from pathlib import Path

import pytest

from kvsim.config import Config, dump, load_config
from kvsim.config.kvcache_sim_compat import MORE_SPECIFIC, SPELLINGS
from kvsim.config.layer import all_keys
from kvsim.config.tree import get
from kvsim.errors import ConfigError

# Every key that kvcache-sim's configuration knows, at the values it ships.
SEED_CONFIG = """
hardware:
  hbm: {capacity_gb: 5, read_bw_gbps: 3350, write_bw_gbps: 3350, read_latency_ms: 0.001}
  dram: {capacity_gb: 256, read_bw_gbps: 200, write_bw_gbps: 200, read_latency_ms: 0.1}
  ssd: {capacity_gb: 3200, read_bw_gbps: 7, write_bw_gbps: 4, read_latency_ms: 0.5}
cache: {block_size_bytes: 5242880, num_workers: 4, promote_on_hit: true, async_backup: true}
cluster:
  total_gpus: 10240
  gpus_per_rack: 64
  simulate_racks: 160
  simulate_gpus_per_rack: 64
  gpu: {hbm_capacity_gb: 5, hbm_read_bw_gbps: 3350, hbm_write_bw_gbps: 3350, hbm_latency_ms: 0.001}
  eic: {nodes_per_rack: 4, capacity_per_node_gb: 32, read_bw_gbps: 100, write_bw_gbps: 80, access_latency_ms: 0.005}
  network:
    intra_rack_latency_us: 3
    cross_rack_latency_us: 15
    remote_ssd_latency_us: 200
    nvlink_bw_gbps: 900
    nvlink_latency_us: 1
    gpus_per_node: 8
    p2p_rdma_bw_gbps: 100
    p2p_rdma_latency_us: 5
    jitter_cv: 0.0
    tail_jitter_prob: 0.0
    tail_jitter_multiplier: 1.0
    contention_enabled: false
    seed: 42
trace: &chat
  num_sessions: 3000
  turns_per_session: 4
  prompt_tokens_min: 256
  prompt_tokens_max: 2048
  initial_context_tokens: 4096
  num_system_prompts: 8
  num_shared_docs: 200
  num_rag_chunks: 3
  doc_zipf_alpha: 1.2
  qps: 30.0
  seed: 42
cluster_trace: {<<: *chat, num_sessions: 8000, prompt_tokens_max: 4096, qps: 200.0}
pd_trace: {<<: *chat, prompt_tokens_min: 512, prompt_tokens_max: 4096, initial_context_tokens: 8192, qps: 100.0}
agent_trace:
  num_sessions: 500
  turns_min: 15
  turns_max: 50
  tool_def_tokens: 2048
  tool_result_min: 128
  tool_result_max: 4096
  reasoning_tokens: 256
  num_tool_sets: 5
  num_system_prompts: 5
  qps: 20.0
  seed: 42
policies: {eviction: lru, prefetch: none, selective_write: false, selective_write_depth_threshold: 6}
experiments: {num_requests: 5000, warmup_requests: 500, output_dir: results}
cluster_experiments: {num_requests: 8000, warmup_requests: 1000, output_dir: results}
pd_separation:
  enabled: true
  pd_ratio: [1, 3]
  chunked_prefill: false
  chunk_size_tokens: 512
  max_output_tokens: 128
  compute:
    prefill_tflops: 800
    decode_memory_bw_gbps: 3350
    model_params_b: 70
    kv_bytes_per_token: 327680
    tokens_per_block: 16
    overhead_factor: 1.0
    prefill_batch_efficiency: 0.85
    decode_kv_overhead_factor: 0.02
  transfer:
    strategy: push
    rdma_bw_gbps: 12.5
    rdma_latency_us: 5
    pipelining: true
    pipeline_chunk_blocks: 16
    compression_ratio: 1.0
pd_experiments:
  num_requests: 4000
  warmup_requests: 400
  output_dir: results
  pd_ratios: [[1,1], [1,2], [1,3], [1,4], [1,7]]
"""


@pytest.fixture
def seed_config(tmp_path) -> Path:
    path = tmp_path / "seed.yaml"
    path.write_text(SEED_CONFIG, encoding="utf-8")
    return path


def test_the_seed_config_loads_with_its_meaning(seed_config):
    loaded = load_config(seed_config)
    config = loaded.config
    assert config.hardware.hbm.kv_capacity_gb == 5 and config.hardware.ssd.read_gb_per_s == 7
    assert config.cluster.gpu.hbm_read_gb_per_s == 3350 and config.cluster.network.gpus_per_host == 8
    assert config.pd_separation.transfer.rdma_gb_per_s == 12.5
    assert config.pd_separation.compute.decode_memory_gb_per_s == 3350
    assert (config.agent_trace.tool_result_min_tokens, config.agent_trace.tool_result_max_tokens) == (128, 4096)
    assert config.pd_trace.new_tokens_mean == load_config().config.pd_trace.new_tokens_mean
    assert "pd_separation.transfer.rdma_bw_gbps -> rdma_gb_per_s" in loaded.provenance.notes[0]


@pytest.mark.parametrize("preset", ["smoke", "dev", "prod-eval"])
def test_the_seed_config_takes_presets(seed_config, preset):
    config = load_config(seed_config, preset=preset).config
    assert config.pd_trace.qps == 100
    assert (config.pd_trace.num_sessions is None) == (preset != "prod-eval")


def test_an_overlay_that_changes_the_kv_size_outdates_an_older_block_size(tmp_path, seed_config):
    overlay = tmp_path / "o.yaml"
    overlay.write_text("overrides: {pd_separation: {compute: {kv_bytes_per_token: 655360}}}", encoding="utf-8")
    loaded = load_config(seed_config, overlay)
    assert loaded.config.cache.block_size_bytes is None
    assert any("block_size_bytes = 5242880" in note for note in loaded.provenance.notes)


BOTH = [(section, theirs, ours) for section, keys in SPELLINGS.items() for theirs, ours in keys.items()]


def test_every_spelling_is_listed():
    assert len(BOTH) == 3 + 2 + 2 + 3 + 2 + 3 + 1 + 1 + 2


@pytest.mark.parametrize(("section", "theirs", "ours"), BOTH)
def test_both_spellings_mean_the_same(section, theirs, ours):
    value = 200  # fits every one of these keys
    spelled = [load_config(sets=[f"{section}.{key}={value}"]).config for key in (theirs, ours)]
    assert spelled[0] == spelled[1]
    assert get(dump(spelled[0]), f"{section}.{ours}") == value


@pytest.mark.parametrize(("section", "theirs", "ours"), BOTH)
def test_both_spellings_in_one_file_are_an_error(tmp_path, section, theirs, ours):
    tree = f"{{{theirs}: 200, {ours}: 200}}"
    for key in reversed(section.split(".")):
        tree = f"{{{key}: {tree}}}"
    path = tmp_path / "both.yaml"
    path.write_text(tree, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"both\.yaml: {section} gives both '{theirs}' and '{ours}'"):
        load_config(path)


def test_spellings_may_differ_between_files(tmp_path, seed_config):
    overlay = tmp_path / "o.yaml"
    overlay.write_text("pd_separation: {transfer: {rdma_gb_per_s: 25}}", encoding="utf-8")
    assert load_config(seed_config, overlay).config.pd_separation.transfer.rdma_gb_per_s == 25


def test_keys_of_one_quantity_name_keys_that_exist():
    named = set(MORE_SPECIFIC) | {key for keys in MORE_SPECIFIC.values() for key in keys}
    assert named <= set(all_keys(Config))
