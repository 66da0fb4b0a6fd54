"""Another model, GPU or degree than was measured is never taken without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.config import LoadedConfig, load_config
from kvsim.validate.caveats import gpu_caveats, model_caveats, profile_caveats, size_caveats, version_caveats

PROFILE = Path("h100_llama-3.1-8b_tp1_bf16")


def loaded(*sets: str) -> LoadedConfig:
    return load_config(overlay=PROFILE, sets=["model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", *sets])


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (None, None),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("Qwen/Qwen3-32B", "r.json was measured with Qwen/Qwen3-32B; predicted is llama-3.1-8b"),
        ("my/tune", "r.json was measured with my/tune, which is not known here: taken for llama-3.1-8b"),
    ],
)
def test_models(measured: str | None, said: str | None) -> None:
    assert model_caveats("r.json", measured, loaded().config) == ([] if said is None else [said])


def test_a_config_json_is_compared_by_its_shapes(tmp_path: Path) -> None:
    shapes = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(shapes), encoding="utf-8")
    config = loaded(f"model.name={path}")
    assert profile_caveats(config) == model_caveats("run", "meta-llama/Llama-3.1-8B", config.config) == []
    path.write_text(json.dumps(shapes | {"num_hidden_layers": 40}), encoding="utf-8")
    config = loaded(f"model.name={path}")
    assert profile_caveats(config) == [f"profile {PROFILE} was measured with llama-3.1-8b; predicted is {path}"]
    assert len(model_caveats("run", "meta-llama/Llama-3.1-8B", config.config)) == 1


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ("NVIDIA H100 80GB HBM3", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "run was measured on rtx-pro-6000; predicted is h100-sxm"),
        ("Abacus", "run was measured on Abacus, which is not known here; predicted is h100-sxm"),
        (None, "run does not say on which GPU it was measured; predicted is h100-sxm"),
    ],
)
def test_gpus(measured: str | None, said: str | None) -> None:
    assert gpu_caveats("run", measured, loaded().config) == ([] if said is None else [said])


def test_degrees_and_models_that_the_profile_does_not_hold_for() -> None:
    assert profile_caveats(loaded()) == []
    (found,) = profile_caveats(loaded("engine.tensor_parallel_size=2"))
    assert "holds for tensor_parallel_size 1; this run has 2" in found


def test_versions() -> None:
    assert version_caveats("run", "0.19.0rc1") == []
    assert version_caveats("run", "nightly")[0].startswith("run names vLLM 'nightly', which is no version: taken for")
    assert version_caveats("run", "²")[0].startswith("run names vLLM '²', which is no version")
    assert version_caveats("run", "")[0].startswith("run names no version of vLLM: taken for")


def test_errors_that_no_right_profile_has() -> None:
    assert size_caveats(None, loaded().config) == size_caveats(-20.0, loaded().config) == []
    assert size_caveats(-47.0, loaded().config)[0].startswith("TPOT is -47% off")
