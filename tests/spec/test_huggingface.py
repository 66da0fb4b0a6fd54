"""Models from their config.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.spec import MODELS, InstanceSpec, ModelSpec, find_gpu, find_model
from kvsim.spec.catalogue import entries
from kvsim.spec.huggingface import model_of, read_model_config

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
QWEN_30B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}


def written(folder: Path, values: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(("values", "name"), [(LLAMA_8B, "llama-3.1-8b"), (QWEN_30B, "qwen3-30b-a3b")])
def test_a_config_describes_the_model_we_know(tmp_path: Path, values: dict[str, object], name: str) -> None:
    found, known = read_model_config(written(tmp_path, values)), MODELS[name]
    assert found.params == pytest.approx(known.params, rel=0.02)
    assert found.kv_bytes_per_token("bf16") == known.kv_bytes_per_token("bf16")
    assert (found.num_experts, found.experts_per_token) == (known.num_experts, known.experts_per_token)
    path = str(tmp_path / "config.json")
    assert find_model(path) == replace(found, hf_id=path)


def test_weights_types_are_named_as_here(tmp_path: Path) -> None:
    def dtype(method: str | None) -> str:
        changed = {} if method is None else {"quantization_config": {"quant_method": method}}
        return read_model_config(written(tmp_path, LLAMA_8B | changed)).weight_dtype

    assert [dtype(method) for method in (None, "fp8", "awq")] == ["bf16", "fp8", "int4"]


NAS = LLAMA_8B | {"model_type": "nemotron-nas", "num_hidden_layers": 2}
BAD = {
    "no key 'hidden_size'": {key: value for key, value in LLAMA_8B.items() if key != "hidden_size"},
    "no key 'model_type'": {key: value for key, value in LLAMA_8B.items() if key != "model_type"},
    "num_hidden_layers = -1: must be a whole number from 1 to 10000": LLAMA_8B | {"num_hidden_layers": -1},
    "num_hidden_layers = 3.5": LLAMA_8B | {"num_hidden_layers": 3.5},
    "num_hidden_layers = 100000": LLAMA_8B | {"num_hidden_layers": 100000},
    "num_key_value_heads = 5: must be a divisor of num_attention_heads, 32": LLAMA_8B | {"num_key_value_heads": 5},
    "num_experts_per_tok = 200: must be 1 to 128": QWEN_30B | {"num_experts_per_tok": 200},
    "tie_word_embeddings = 'no': must be true or false": LLAMA_8B | {"tie_word_embeddings": "no"},
    "rope_scaling.factor = 'two'": LLAMA_8B | {"rope_scaling": {"type": "linear", "factor": "two"}},
    "text_config = 3: must be an object": LLAMA_8B | {"text_config": 3},
    "layer_types has 2 items: must be 32, one for each layer": LLAMA_8B
    | {"sliding_window": 9, "layer_types": ["full_attention"] * 2},
    "layer_types = 'mamba': must be one of": LLAMA_8B | {"sliding_window": 9, "layer_types": ["mamba"] * 32},
    "quantization_config.quant_method = 'aqlm': must be one of fp8,": LLAMA_8B
    | {"quantization_config": {"quant_method": "aqlm"}},
    "quantization_config bits = 3: must be 4 or 8": LLAMA_8B
    | {"quantization_config": {"quant_method": "gptq", "bits": 3}},
    "quantization_config weights = '6 bits of int'": LLAMA_8B
    | {"quantization_config": {"config_groups": {"g": {"weights": {"num_bits": 6, "type": "int"}}}}},
    "config_groups = .*: must be groups with the type": LLAMA_8B | {"quantization_config": {"config_groups": []}},
    "quantization_config ignore = .*: must be names": LLAMA_8B
    | {"quantization_config": {"quant_method": "fp8", "ignore": ["re:("]}},
    "model_type 'lama' is not known; did you mean 'llama'": LLAMA_8B | {"model_type": "lama"},
    "model_type 'bert' is not known; one whose layers are built as Llama's can be": LLAMA_8B | {"model_type": "bert"},
    "model_type 'mamba2' is not modelled: some of its layers are state-space": LLAMA_8B | {"model_type": "mamba2"},
    "model_type 'qwen3_next' is not modelled": LLAMA_8B | {"model_type": "qwen3_next"},
    "model_type 'nemotron_h' is not modelled": LLAMA_8B | {"model_type": "nemotron_h"},
    "model_type 'deepseek_v32' is not modelled: an index beside": LLAMA_8B | {"model_type": "deepseek_v32"},
    "text_config: model_type 'gemma4_text' is not modelled": {
        "model_type": "gemma4",
        "text_config": {"hidden_size": 1},
    },
    "a model with 'is_encoder_decoder' is not modelled: it has an encoder": LLAMA_8B | {"is_encoder_decoder": True},
    "a model with 'mamba_d_state' is not modelled": LLAMA_8B | {"mamba_d_state": 128},
    "n_heads_in_group = .*must be the same in all layers": NAS
    | {"block_configs": [{"attention": {"n_heads_in_group": size}, "ffn": {"no_op": True}} for size in (4, 8)]},
    "n_heads_in_group = 5: must be a divisor": NAS
    | {"block_configs": [{"attention": {"n_heads_in_group": 5}, "ffn": {"no_op": True}}] * 2},
    "ffn_mult = None: must be a number": NAS
    | {"block_configs": [{"attention": {"n_heads_in_group": 8}, "ffn": {}}] * 2},
    "holds no object": [1, 2],
}


@pytest.mark.parametrize(("message", "values"), BAD.items(), ids=range(len(BAD)))
def test_bad_configs_are_refused(tmp_path: Path, message: str, values: object) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        read_model_config(written(tmp_path, values))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b"),
        ("Qwen/Qwen3-32B", "qwen3-32b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
    ],
)
def test_models_by_their_hub_names(spelt: str, name: str) -> None:
    assert find_model(spelt).name == name


def test_experts_window_and_latent_by_hand() -> None:
    mixtral, deepseek, oss = MODELS["mixtral-8x7b"], MODELS["deepseek-v3"], MODELS["gpt-oss-120b"]
    assert mixtral.active_params == pytest.approx(12.9e9, rel=0.02)
    assert deepseek.active_params == pytest.approx(37e9, rel=0.05)
    assert mixtral.active_experts(1) == pytest.approx(2)
    assert mixtral.active_experts(2) == pytest.approx(8 * (1 - 0.75**2))
    assert deepseek.kv_bytes_per_token("bf16") == 61 * 576 * 2
    per_token = 36 * 2 * 8 * 64 * 2
    assert oss.kv_bytes_of_sequence(1000, "bf16") == pytest.approx(per_token * (18 * 1000 + 18 * 128) / 36)
    assert oss.kv_bytes_of_sequence(100, "bf16") == per_token * 100


def test_experts_are_held_once_by_the_engines_that_share_them() -> None:
    spec = InstanceSpec(MODELS["qwen3-30b-a3b"], find_gpu("h100"), 1, "bf16", "bf16", 16, 0.9, 0.0)
    shared = InstanceSpec(MODELS["qwen3-30b-a3b"], find_gpu("h100"), 1, "bf16", "bf16", 16, 0.9, 0.0, expert_parallel=2)
    experts_bytes = 3 * 48 * 128 * 2048 * 768 * 2
    assert spec.weight_bytes_per_gpu - shared.weight_bytes_per_gpu == pytest.approx(experts_bytes / 2)
    latent = InstanceSpec(MODELS["deepseek-v3"], find_gpu("h200"), 8, "fp8", "bf16", 16, 0.9, 0.0)
    assert latent.kv_bytes_per_token == 8 * 61 * 576 * 2


DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "quantization_config": {"quant_method": "fp8"},
}
V2_LITE = DEEPSEEK_V3 | {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
    "vocab_size": 102400,
}


@pytest.mark.parametrize(("values", "billions", "active"), [(DEEPSEEK_V3, 671.0, 37.5), (V2_LITE, 15.7, 2.66)])
def test_latent_attention_without_a_head_dim(
    tmp_path: Path, values: dict[str, object], billions: float, active: float
) -> None:
    """Parameters of the model cards; a head is 128 wide, not hidden_size / num_attention_heads."""
    found = read_model_config(written(tmp_path, values))
    assert found.params / 1e9 == pytest.approx(billions, rel=2e-3)
    assert found.active_params / 1e9 == pytest.approx(active, rel=1e-2)
    assert found.head_dim == 128


def test_a_config_of_deepseek_is_the_model_we_know(tmp_path: Path) -> None:
    found, known = read_model_config(written(tmp_path, DEEPSEEK_V3)), MODELS["deepseek-v3"]
    pairs = [4 * model.num_layers * model.num_heads * model.head_dim for model in (found, known)]
    assert pairs[0] == pairs[1] == pytest.approx(4.0e6, rel=1e-3)
    assert found.kv_bytes_per_token("bf16") == known.kv_bytes_per_token("bf16")
    assert found.params == pytest.approx(known.params, rel=1e-3)
    assert (found.weight_dtype, found.expert_weight_dtype) == ("fp8", None)


def of(**changes: object) -> ModelSpec:
    return model_of(LLAMA_8B | changes, "made up", "config.json")


def test_biases_ties_and_gates_by_hand() -> None:
    """Beside Llama's: what each adds or takes away, of 32 layers that are 4,096 wide with 48 heads for Q, K and V."""
    llama, vocab = of().params, 128256
    qkv, hidden, inner, layers = 48 * 128, 4096, 14336, 32
    assert of(tie_word_embeddings=True).params == llama - hidden * vocab
    assert of(model_type="qwen2").params == llama + layers * qkv
    assert of(attention_bias=True).params == llama + layers * (qkv + hidden)
    assert of(mlp_bias=True).params == llama + layers * (2 * inner + hidden)
    assert of(model_type="qwen3", head_dim=128).params == llama + layers * 2 * 128
    assert (
        of(model_type="gemma2", head_dim=128, sliding_window=None).params
        == llama - hidden * vocab + layers * 2 * hidden
    )
    assert of(model_type="cohere", tie_word_embeddings=False).params == llama - layers * hidden
    assert of(model_type="cohere", tie_word_embeddings=False, use_qk_norm=True).params == (
        llama - layers * hidden + layers * 40 * 128
    )
    two_matrices = of(model_type="starcoder2", tie_word_embeddings=False, use_bias=False)
    assert two_matrices.params == llama - layers * hidden * inner + (2 * layers + 1) * hidden
    assert (two_matrices.mlp_matrices, of().mlp_matrices) == (2, 3)


def test_experts_in_every_second_layer_and_one_that_all_share() -> None:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 16384}
    found = of(model_type="llama4_text", interleave_moe_layer_step=2, attention_chunk_size=None, **experts)
    hidden, size = 4096, 14336
    attention = hidden * 2 * 40 * 128
    sparse = 4 * hidden + (4 + 1) * 3 * hidden * size
    dense = 3 * hidden * 16384
    whole = 16 * (sparse + dense) + 32 * (attention + 2 * hidden) + 2 * hidden * 128256 + hidden
    assert (found.params, found.num_dense_layers) == (whole, 16)
    assert found.expert_params == 16 * 4 * 3 * hidden * size
    assert (found.sliding_window_tokens, found.window_is_chunk) == (None, False)
    listed = of(model_type="llama4_text", moe_layers=[1, 3], **experts)
    assert (listed.num_dense_layers, listed.sliding_window_tokens, listed.num_window_layers) == (30, 8192, 24)


def test_layers_without_attention_keep_no_kv() -> None:
    blocks = [
        {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 2.625}},
        {"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}},
    ]
    found = model_of(NAS | {"block_configs": blocks}, "searched", "config.json")
    assert (found.num_kv_layers, found.num_kv_heads, found.intermediate_size) == (1, 4, 7168)
    assert found.kv_bytes_per_token("bf16") == 2 * 4 * 128 * 2
    matrices = 4096 * 2 * 36 * 128 + 3 * 4096 * 7168 + 4096 * 4096
    assert found.params == matrices + 2 * 4096 * 128256 + (2 * 2 + 1) * 4096


def test_falcon_by_its_own_names() -> None:
    """One KV head and one norm before the new architecture, whatever the file says; two matrices of four widths."""
    own = {"model_type": "RefinedWebModel", "n_layer": 32, "n_head": 71, "hidden_size": 4544, "vocab_size": 65024}
    found = model_of(own | {"multi_query": True, "parallel_attn": True, "n_head_kv": 71}, "falcon", "config.json")
    layer = 4544 * 2 * 72 * 64 + 2 * 4 * 4544 * 4544 + 2 * 4544
    assert (found.num_kv_heads, found.head_dim, found.tied_embeddings) == (1, 64, True)
    assert found.params == 32 * layer + 65024 * 4544 + 2 * 4544


@pytest.mark.parametrize(
    ("changes", "longest"),
    [
        ({}, 2048),
        ({"max_position_embeddings": 8192}, 8192),
        ({"max_position_embeddings": 8192, "seq_length": 4096}, 4096),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "linear", "factor": 4.0}}, 32768),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 16384),
        ({"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 8192),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 8192),
        ({"max_position_embeddings": 8192, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, 8192),
        ({"max_position_embeddings": 8192, "rope_parameters": {"a": {"rope_type": "linear", "factor": 8}}}, 65536),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope"}}, 131072),
        (
            {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
            | {"rope_scaling": {"type": "longrope"}},
            4096,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "su", "factor": None}}, 131072),
    ],
)
def test_lengths_by_their_scaling(changes: dict[str, object], longest: int) -> None:
    assert of(**changes).max_position_embeddings == longest


def test_gemma_has_its_scaling_in_its_length() -> None:
    scaled = {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert of(model_type="gemma3_text", head_dim=256, **scaled).max_position_embeddings == 131072


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"model_type": "mistral", "sliding_window": 4096}, (4096, 32)),
        ({"model_type": "mistral", "sliding_window": None}, (None, 0)),
        ({"model_type": "mistral", "sliding_window": 0}, (None, 0)),
        ({"model_type": "qwen2", "sliding_window": 4096}, (None, 0)),
        (
            {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 28},
            (4096, 4),
        ),
        ({"model_type": "gemma2", "head_dim": 256}, (4096, 16)),
        ({"model_type": "cohere2", "sliding_window": 512, "sliding_window_pattern": 8}, (512, 28)),
        ({"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"] * 16}, (9, 16)),
        ({"model_type": "llama4_text", "attention_chunk_size": 64, "no_rope_layers": [1, 0] * 16}, (64, 16)),
    ],
)
def test_windows_by_their_keys(changes: dict[str, object], window: tuple[int | None, int]) -> None:
    found = of(**changes)
    assert (found.sliding_window_tokens, found.num_window_layers) == window


def test_what_is_not_quantised_keeps_its_bits() -> None:
    """Embedding, projection and norms always; whole parts where the file says so, in every layer or in some."""
    fp8 = {"quant_method": "fp8"}
    head, norms = 2 * 4096 * 128256, (2 * 32 + 1) * 4096
    assert of(quantization_config=fp8).unquantised_params == of().unquantised_params == head + norms
    attention = 32 * 4096 * 2 * 40 * 128
    for ignored in (["re:.*self_attn.*"], ["model.layers.*.self_attn"], ["language_model.model.layers.*.self_attn*"]):
        found = of(quantization_config=fp8 | {"ignore": ignored})
        assert found.unquantised_params == head + norms + attention
    one = of(quantization_config=fp8 | {"modules_to_not_convert": ["lm_head", "model.layers.3.self_attn.q_proj"]})
    assert one.unquantised_params == head + norms + attention / 32
    assert one.other_bytes("fp8") == one.params + one.unquantised_params
    assert one.other_bytes("bf16") == 2 * one.params


def test_experts_may_be_stored_as_something_else() -> None:
    def types(values: dict[str, object], **quantised: object) -> tuple[str, str | None]:
        found = model_of(values | {"quantization_config": quantised}, "made up", "config.json")
        return found.weight_dtype, found.expert_weight_dtype

    assert types(QWEN_30B, quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn"]) == (
        "bf16",
        "mxfp4",
    )
    assert types(QWEN_30B, quant_method="fp8", ignore=["re:.*experts.*"]) == ("fp8", "bf16")
    assert types(QWEN_30B, quant_method="fp8") == ("fp8", None)
    nvfp4 = model_of(QWEN_30B | {"quantization_config": {"quant_algo": "NVFP4"}}, "made up", "config.json")
    assert (nvfp4.weight_dtype, nvfp4.expert_weight_dtype, nvfp4.note) == ("nvfp4", None, "")


def test_modelopt_says_it_beside_the_config(tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA_8B)
    inner = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    beside = tmp_path / "hf_quant_config.json"
    beside.write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": inner}))
    found = read_model_config(tmp_path)
    assert (found.weight_dtype, found.kv_dtype, found.name) == ("fp8", "fp8", tmp_path.name)
    assert read_model_config(path) == found
    written(tmp_path, LLAMA_8B | {"quantization_config": {"quant_method": "awq"}})
    assert (read_model_config(path).weight_dtype, read_model_config(path).kv_dtype) == ("int4", None)


def test_a_model_that_sees_is_its_text_part() -> None:
    text = {key: value for key, value in LLAMA_8B.items() if key != "model_type"}
    seen = {"model_type": "mistral3", "text_config": text, "vision_config": {}, "torch_dtype": "float16"}
    found = model_of(seen | {"quantization_config": None}, "sees", "config.json")
    assert replace(found, name="", note="", weight_dtype="") == replace(of(), name="", weight_dtype="")
    assert (found.weight_dtype, found.note) == ("fp16", "its text part; what sees or hears beside it is left out")


KEYS = """
    num_hidden_layers hidden_size num_attention_heads num_key_value_heads head_dim intermediate_size vocab_size
    sliding_window layer_types rope_scaling quantization_config text_config block_configs num_local_experts
    num_experts_per_tok moe_layer_freq mlp_only_layers no_rope_layers model_type kv_lora_rank q_lora_rank torch_dtype
    max_position_embeddings first_k_dense_replace moe_layers interleave_moe_layer_step n_shared_experts
"""
INNER_KEYS = ["type", "factor", "quant_method", "bits", "config_groups", "attention", "ignore", "weights"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER_KEYS), inner, max_size=3),
    max_leaves=6,
)


@given(base=st.sampled_from(sorted(entries())), key=st.sampled_from(KEYS.split()), value=VALUES)
@settings(max_examples=150, deadline=None)
def test_no_value_is_a_traceback(base: str, key: str, value: object) -> None:
    try:
        model = model_of({**entries()[base].config, key: value}, base, "config.json")
    except ConfigError as refused:
        assert str(refused).startswith("config.json: ") and "\n" not in str(refused)
    else:
        assert model.params > 0 and model.kv_bytes_per_token("bf16") > 0
        assert model.other_bytes("fp8") + model.expert_bytes("fp8") > 0
