"""A default that nobody chose gives way to what somebody chose, and says so; it is never what an error blames."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.config import load_config
from kvsim.config.effect import without_effect
from kvsim.config.tree import dump, get
from kvsim.errors import ConfigError

GIVES_WAY = [
    ("pd", ["engine.max_num_batched_tokens=512"], "engine.max_num_seqs", 512),
    ("single", ["engine.block_size=784"], "cache.chunk_tokens", 784),
    ("single", ["engine.block_size=100"], "cache.chunk_tokens", 300),
    ("cluster", ["pd_separation.compute.tokens_per_block=784"], "cache.chunk_tokens", 784),
    ("single", ["trace.num_sessions=10"], "experiments.num_requests", 40),
    ("single", ["experiments.num_requests=13000"], "trace.num_sessions", 3250),
    ("single", ["trace.turns_per_session=1"], "trace.num_sessions", 5000),
    ("cluster", ["cluster.simulate_gpus_per_rack=4"], "cluster.network.gpus_per_host", 4),
    ("pd", ["cluster.simulate_gpus_per_rack=12"], "cluster.network.gpus_per_host", 4),
]


@pytest.mark.parametrize(("mode", "sets", "key", "value"), GIVES_WAY)
def test_a_default_gives_way_and_a_note_says_so(mode, sets, key, value) -> None:
    loaded = load_config(sets=sets, mode=mode)
    assert get(dump(loaded.config), key) == value
    (note,) = loaded.provenance.notes
    assert note.startswith(f"{key} = {value} instead of ")


def test_a_preset_is_nobody_s_choice_either() -> None:
    loaded = load_config(preset="smoke", sets=["trace.num_sessions=10"], mode="single")
    assert loaded.config.experiments.num_requests == 40
    config = load_config(preset="smoke", sets=["pd_trace.num_sessions=9"], mode="pd").config
    assert config.pd_experiments.num_requests == 36


def test_what_was_chosen_does_not_give_way(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("cache: {chunk_tokens: 256}\nengine: {max_num_seqs: 1024}\n")
    with pytest.raises(ConfigError, match="chunk_tokens = 256 is no multiple of the 784 tokens"):
        load_config(own, sets=["engine.block_size=784"], mode="single")
    with pytest.raises(ConfigError, match=r"^--set: engine.max_num_batched_tokens = 512 is below engine.max_num_seqs"):
        load_config(own, sets=["engine.max_num_batched_tokens=512"], mode="pd")
    both = ["trace.num_sessions=10", "experiments.num_requests=50"]
    assert load_config(sets=both, mode="single").config.experiments.num_requests == 50


def test_no_shipped_warm_up_is_longer_than_a_run() -> None:
    for preset in (None, "smoke", "dev", "prod-eval"):
        config = load_config(preset=preset).config
        for experiment in (config.experiments, config.cluster_experiments, config.pd_experiments):
            assert experiment.warmup_requests is None
    assert load_config(sets=["experiments.num_requests=3"], mode="single").config.experiments.num_requests == 3


UNUSED = [
    ("pd", "engine.block_size=784"),
    ("pd", "cache.chunk_tokens=100"),
    ("pd", "hardware.dram.capacity_gb=0"),
    ("pd", "cache.tiers=[ssd,dram]"),
    ("pd", "trace.prompt_tokens_min=9999"),
    ("single", "engine.tensor_parallel_size=3"),
    ("single", "pd_separation.decode_tensor_parallel_size=3"),
    ("cluster", "pd_separation.prefill_tensor_parallel_size=3"),
    ("cluster", "experiments.warmup_requests=5000"),
    ("instance", "cache.inclusive=false"),
    ("instance", "engine.tensor_parallel_size=3"),
]


@pytest.mark.parametrize(("mode", "given"), UNUSED)
def test_keys_without_a_use_need_not_agree(mode, given) -> None:
    load_config(sets=[given], mode=mode)


def test_large_blocks_without_tiers_say_nothing_of_chunks() -> None:
    loaded = load_config(sets=["engine.block_size=784"], mode="pd")
    assert loaded.provenance.notes == ()
    assert without_effect(loaded.config, "pd") == []


BLAMED = {
    "engine.tensor_parallel_size=3": "--set: engine.tensor_parallel_size = 3 does not divide the 64 GPUs of a rack",
    "engine.tensor_parallel_size=128": "--set: engine.tensor_parallel_size = 128 does not divide the 64 GPUs of a rack",
    "cluster.simulate_gpus_per_rack=6": "--set: cluster.simulate_gpus_per_rack = 6 is no multiple of engine.tensor",
    "pd_separation.decode_tensor_parallel_size=3": "--set: pd_separation.decode_tensor_parallel_size = 3 does not",
}


@pytest.mark.parametrize(("given", "words"), BLAMED.items())
def test_the_key_that_somebody_set_is_blamed(given, words) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(preset="dev", sets=[given], mode="pd")
    assert str(caught.value).startswith(words)
    assert given.startswith("cluster") or "allowed: 1, 2, 4, 8, 16, 32, 64" in str(caught.value)
