"""The catalogue of models against figures taken down apart from it, and the names it answers to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.content import content_path
from kvsim.errors import ConfigError
from kvsim.spec import MODELS, ModelSpec, find_model, known_model, model_file
from kvsim.spec.catalogue import Variant, entries

DENSE = """
    llama-2-7b 6.74 32 32 32 128, llama-2-13b 13.02 40 40 40 128, llama-2-70b 68.98 80 64 8 128
    llama-3-8b 8.03 32 32 8 128, llama-3-70b 70.55 80 64 8 128, llama-3.1-8b 8.03 32 32 8 128
    llama-3.1-70b 70.55 80 64 8 128, llama-3.1-405b 405.85 126 128 8 128, llama-3.2-1b 1.24 16 32 8 64
    llama-3.2-3b 3.21 28 24 8 128, llama-3.3-70b 70.55 80 64 8 128
    qwen2.5-0.5b 0.494 24 14 2 64, qwen2.5-1.5b 1.54 28 12 2 128, qwen2.5-3b 3.09 36 16 2 128
    qwen2.5-7b 7.62 28 28 4 128, qwen2.5-14b 14.77 48 40 8 128, qwen2.5-32b 32.76 64 40 8 128
    qwen2.5-72b 72.71 80 64 8 128, qwen2-7b 7.62 28 28 4 128, qwen2-72b 72.71 80 64 8 128
    deepseek-r1-distill-qwen-1.5b 1.78 28 12 2 128
    qwen3-0.6b 0.596 28 16 8 128, qwen3-1.7b 1.72 28 16 8 128, qwen3-4b 4.02 36 32 8 128
    qwen3-8b 8.19 36 32 8 128, qwen3-14b 14.77 40 40 8 128, qwen3-32b 32.76 64 64 8 128
    mistral-7b 7.25 32 32 8 128, mistral-nemo-12b 12.248 40 32 8 128, mistral-small-22b 22.2 56 48 8 128
    mistral-small-24b 23.57 40 32 8 128, mistral-large-123b 122.6 88 96 8 128
    gemma-2-2b 2.61 26 8 4 256, gemma-2-9b 9.24 42 16 8 256, gemma-2-27b 27.2 46 32 16 128
    gemma-3-1b 1.0 26 4 1 256, gemma-3-4b 3.88 34 8 4 256, gemma-3-12b 11.77 48 16 8 256
    gemma-3-27b 27.0 62 32 16 128
    phi-3-mini 3.82 32 32 32 96, phi-3-medium 13.96 40 40 10 128, phi-4 14.66 40 40 10 128
    phi-4-mini 3.84 32 24 8 128
    glm-4-9b 9.4 40 32 2 128, glm-4-32b 32.57 61 48 2 128
    yi-6b 6.06 32 32 4 128, yi-9b 8.83 48 32 4 128, yi-34b 34.39 60 56 8 128
    codellama-7b 6.74 32 32 32 128, codellama-13b 13.02 40 40 40 128, codellama-34b 33.74 48 64 8 128
    codellama-70b 68.98 80 64 8 128
    command-r 34.98 40 64 64 128, command-r-08-2024 32.3 40 64 8 128, command-r-plus 103.8 64 96 8 128
    command-r7b 8.03 32 32 8 128, command-a 111.06 64 96 8 128
    falcon-7b 6.92 32 71 1 64, falcon-40b 41.3 60 128 8 64, falcon-180b 178.56 80 232 8 64
    falcon3-7b 7.46 28 12 4 256, falcon3-10b 10.31 40 12 4 256
    granite-3-2b 2.53 40 32 8 64, granite-3-8b 8.17 40 32 8 128
    llama-3.3-nemotron-super-49b 49.9 80 64 8 128
"""
"""Billions of parameters, layers, heads, KV heads, width of a head.

Parameters as the checkpoints' safetensors or cards have them, for models that see those of the text part. The files of
Falcon hold the tied projection a second time, which is taken off.
"""
SPARSE = """
    llama-4-scout 107.77 48 40 8 128 16 1 17.17, llama-4-maverick 400.71 48 40 8 128 128 1 17.18
    qwen2-57b-a14b 57.41 28 28 4 128 64 8 14.2, qwen3-30b-a3b 30.53 48 32 4 128 128 8 3.35
    qwen3-235b-a22b 235.09 94 64 4 128 128 8 22.19, qwen3-coder-480b-a35b 480.2 62 96 8 128 160 8 35.5
    mixtral-8x7b 46.7 32 32 8 128 8 2 12.9, mixtral-8x22b 140.62 56 48 8 128 8 2 39.15
    deepseek-v2 235.7 60 128 128 128 160 6 21.4, deepseek-v2-lite 15.7 27 16 16 128 64 6 2.66
    deepseek-v3 671.03 61 128 128 128 256 8 37.55, kimi-k2 1026.41 61 64 64 128 384 8 32.86
    gpt-oss-20b 20.91 24 64 8 64 32 4 4.19, gpt-oss-120b 116.83 36 64 8 64 128 4 5.71
    glm-4.5 355 92 96 8 128 160 8 33.63, glm-4.5-air 106.9 46 96 8 128 128 8 13.4
    minimax-m2 228.7 62 48 8 128 256 8 11.0
"""
"""The same, then experts of a layer, those of a token, and billions of parameters of a token, embeddings among them."""
LATENT = {"deepseek-v2": 60 * 576, "deepseek-v2-lite": 27 * 576, "deepseek-v3": 61 * 576, "kimi-k2": 61 * 576}
"""Values that a token keeps: a latent of 512 and a rotated key of 64 a layer."""
KV_LAYERS = {"llama-3.3-nemotron-super-49b": 49}


def rows(text: str) -> list[list[str]]:
    return [row.split() for line in text.strip().splitlines() for row in line.split(",")]


def test_every_model_has_its_figures() -> None:
    assert sorted(row[0] for row in rows(DENSE) + rows(SPARSE)) == sorted(MODELS)
    assert len(MODELS) >= 60


@pytest.mark.parametrize("row", rows(DENSE) + rows(SPARSE), ids=lambda row: row[0])
def test_models_are_as_published(row: list[str]) -> None:
    name, billions, *counts = row
    layers, heads, kv_heads, head_dim, *_ = map(int, counts[:4])
    model = MODELS[name]
    assert model.params / 1e9 == pytest.approx(float(billions), rel=0.015)
    assert (model.num_layers, model.num_heads, model.num_kv_heads, model.head_dim) == (
        layers,
        heads,
        kv_heads,
        head_dim,
    )
    values = LATENT.get(name, KV_LAYERS.get(name, layers) * 2 * kv_heads * head_dim)
    assert model.kv_bytes_per_token("bf16") == 2 * values
    assert model.hf_id == entries()[name].ids[0]


@pytest.mark.parametrize("row", rows(SPARSE), ids=lambda row: row[0])
def test_experts_are_as_published(row: list[str]) -> None:
    model = MODELS[row[0]]
    assert (model.num_experts, model.experts_per_token) == (int(row[6]), int(row[7]))
    assert model.active_params / 1e9 == pytest.approx(float(row[8]), rel=0.015)


def test_counting_comes_to_what_is_published() -> None:
    for entry in entries().values():
        if entry.params is not None:
            counted = entry._replace(params=None).spec(Variant(entry.ids, {}), "").params
            assert counted == pytest.approx(entry.params, rel=2e-3), entry.name


def test_every_id_is_of_one_model() -> None:
    seen: dict[str, str] = {}
    for entry in entries().values():
        assert entry.source.startswith("config.json")
        for hf_id in (*entry.ids, *(hf_id for variant in entry.variants for hf_id in variant.ids)):
            assert hf_id.count("/") == 1 and hf_id.lower() not in seen, hf_id
            seen[hf_id.lower()] = entry.name
            assert (find_model(hf_id).name, find_model(hf_id.upper()).hf_id) == (entry.name, hf_id)
            assert known_model(hf_id) == entry.name


def test_the_file_has_no_key_that_nobody_reads() -> None:
    for given in json.loads(content_path("models.json").read_text())["models"].values():
        assert set(given) <= {"ids", "config", "variants", "params_billions", "extra_params_billions", "note", "source"}
        for variant in given.get("variants", []):
            assert set(variant) <= {"ids", "config", "extra_params_billions", "note"}


LENGTHS = {
    "meta-llama/Llama-3.1-8B-Instruct": 131072,
    "meta-llama/Meta-Llama-3-8B": 8192,
    "Qwen/Qwen2.5-7B-Instruct": 32768,
    "Qwen/Qwen2.5-7B": 131072,
    "Qwen/Qwen3-8B": 40960,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 262144,
    "deepseek-ai/DeepSeek-R1": 163840,
    "openai/gpt-oss-20b": 131072,
    "google/gemma-3-27b-it": 131072,
    "CohereLabs/c4ai-command-r-v01": 131072,
    "microsoft/Phi-3-mini-128k-instruct": 4096,
    "codellama/CodeLlama-70b-Instruct-hf": 4096,
    "tiiuae/falcon-40b": 2048,
    "Qwen/QwQ-32B": 40960,
}


@pytest.mark.parametrize("hf_id", LENGTHS)
def test_lengths_are_vllms(hf_id: str) -> None:
    assert find_model(hf_id).max_position_embeddings == LENGTHS[hf_id]


GIGABYTES = {
    "openai/gpt-oss-120b": ("bf16", "mxfp4", 65.2),
    "openai/gpt-oss-20b": ("bf16", "mxfp4", 13.75),
    "meta-llama/Llama-3.1-70B-Instruct": ("bf16", None, 141.1),
    "nvidia/Llama-3.1-70B-Instruct-FP8": ("fp8", None, 72.7),
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": ("int4", None, 39.8),
    "Qwen/Qwen2.5-7B-Instruct-AWQ": ("int4", None, 5.57),
    "Qwen/Qwen3-32B-FP8": ("fp8", None, 34.3),
    "moonshotai/Kimi-K2-Thinking": ("bf16", "int4_g32", 594.0),
    "deepseek-ai/DeepSeek-V3": ("fp8", None, 673.0),
    "google/gemma-3-27b-it": ("bf16", None, 54.9),
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": ("bf16", None, 48.0),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": ("bf16", "fp8", 416.6),
}
"""Bytes of the checkpoints' files, less what vLLM does not load: MTP layers of DeepSeek."""


@pytest.mark.parametrize("hf_id", GIGABYTES)
def test_weights_are_as_large_as_their_files(hf_id: str) -> None:
    dtype, experts, gigabytes = GIGABYTES[hf_id]
    model = find_model(hf_id)
    assert (model.weight_dtype, model.expert_weight_dtype) == (dtype, experts)
    assert weight_bytes(model) / 1e9 == pytest.approx(gigabytes, rel=0.005)


def weight_bytes(model: ModelSpec) -> float:
    return model.expert_bytes(model.weight_dtype) + model.other_bytes(model.weight_dtype) + model.extra_bytes


@pytest.mark.parametrize(
    ("spelt", "name", "dtype", "longest"),
    [
        ("llama-3.1-8b", "llama-3.1-8b", "bf16", 131072),
        ("LLAMA-3.1-8B", "llama-3.1-8b", "bf16", 131072),
        ("unsloth/Qwen3-4B-Instruct-2507-FP8", "qwen3-4b", "fp8", 262144),
        ("someone/Llama-3.3-70B-Instruct-GPTQ-INT8", "llama-3.3-70b", "int8_wo", 131072),
        ("/models/hub/Mistral-7B-Instruct-v0.3/", "mistral-7b", "bf16", 32768),
        ("nvidia/DeepSeek-R1-0528-FP4", "deepseek-v3", "nvfp4", 163840),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen2.5-32b", "bf16", 131072),
        ("TheBloke/Llama-2-70B-Chat-AWQ", "llama-2-70b", "int4", 4096),
        ("Meta-Llama-3.1-70B-Instruct-quantized.w4a16", "llama-3.1-70b", "int4", 131072),
    ],
)
def test_names_that_no_entry_lists(spelt: str, name: str, dtype: str, longest: int) -> None:
    found = find_model(spelt)
    assert (found.name, found.weight_dtype, found.max_position_embeddings) == (name, dtype, longest)
    assert known_model(spelt) == name


def test_the_first_mistral_has_its_window() -> None:
    first, third = find_model("mistralai/Mistral-7B-v0.1"), find_model("mistralai/Mistral-7B-v0.3")
    assert (first.sliding_window_tokens, first.num_window_layers, first.window_share) == (4096, 32, 1.0)
    assert (third.sliding_window_tokens, third.num_window_layers) == (None, 0)


WINDOWS = {
    "gemma-2-9b": (4096, 21), "gemma-3-1b": (512, 22), "gemma-3-27b": (1024, 52), "gpt-oss-120b": (128, 18),
    "command-r7b": (4096, 24), "llama-4-scout": (8192, 36), "phi-3-mini": (2047, 32), "qwen2.5-7b": (None, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_layers_with_a_window(name: str) -> None:
    model = MODELS[name]
    assert (model.sliding_window_tokens, model.num_window_layers) == WINDOWS[name]
    assert model.window_is_chunk == name.startswith("llama-4")


def test_a_checkout_comes_before_what_its_name_may_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "qwen3-8b-instruct"
    assert model_file(folder.name) is None and find_model(folder.name).num_layers == 36
    folder.mkdir()
    assert find_model(folder.name).num_layers == 36
    config = {**entries()["qwen3-8b"].config, "num_hidden_layers": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert model_file(folder.name) == Path(folder.name, "config.json")
    found = find_model(folder.name)
    assert (found.name, found.num_layers, found.hf_id) == (folder.name, 4, folder.name)
    assert find_model("qwen3-8b").num_layers == 36


def test_an_unknown_name_is_told_the_nearest_and_what_else_is_taken() -> None:
    with pytest.raises(ConfigError) as refused:
        find_model("Qwen/Qwen3-33B")
    assert str(refused.value) == (
        "model.name: unknown model 'Qwen/Qwen3-33B'; did you mean 'qwen3-32b'? Its config.json, or the folder that has "
        "one, is taken as well"
    )
    with pytest.raises(ConfigError, match="`kvsim models` lists those that are known"):
        find_model("zzzzzzz")


@pytest.mark.parametrize("name", ["", "~nobody-of-that-name/model", "x" * 5000, "a\0b", "/", "-fp8", "Meta-"])
def test_what_is_no_name_at_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(entries()["qwen3-8b"].config))
    assert known_model(name) is None and model_file(name) is None
    with pytest.raises(ConfigError, match="unknown model"):
        find_model(name)
    assert find_model(".").num_layers == 36


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt-oss", "did you mean 'gpt-oss-120b' or 'gpt-oss-20b'?"),
        ("openai/gpt-oss-12", "did you mean 'gpt-oss-120b'?"),
        ("qwen3-30b", "did you mean 'qwen3-30b-a3b'?"),
        ("llama3.1-8b", "did you mean 'llama-3.1-8b'?"),
    ],
)
def test_names_that_were_begun_are_all_given(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_model(name)
    assert said in str(caught.value)
