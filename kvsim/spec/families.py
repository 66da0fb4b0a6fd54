"""How the kinds of models differ that share a ``config.json``'s keys: what each key is called, what stands for one that
is missing, and which matrices, biases and norms a layer has.

Source: the configuration classes and models of transformers 5.24 and vLLM 0.32, by ``model_type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Values = Mapping[str, Any]
"""The keys of a ``config.json``, or of its ``text_config``."""


@dataclass(frozen=True, slots=True)
class Family:
    """What is common to the models of one ``model_type``."""

    qkv_bias: bool | str = "attention_bias"
    """Biases of queries, keys and values; a key that says so, or always the same."""
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    mlp_matrices: int = 3
    norms: int = 2
    """Norms of a layer, each as wide as the model."""
    norm_bias: bool = False
    qk_norm: Literal["never", "head", "heads"] = "never"
    """Norms of queries and keys: as wide as one head, or as all of them."""
    qk_norm_key: str = ""
    """The key that says whether they are there; empty: always."""
    head_bias: bool = False
    """The output projection has a bias."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the family calls a key that others have."""
    defaults: Values = field(default_factory=dict)
    """What its configuration class takes for a key that is missing."""
    full_every: int = 0
    """One of so many layers looks at everything, the last of each; 0: the file says which, else all do."""

    def says(self, flag: bool | str, values: Values) -> bool:
        """Whether a bias is there: ``flag`` is the answer, or the key that has it."""
        return flag if isinstance(flag, bool) else bool(values.get(flag, self.defaults.get(flag, False)))

    def norms_of(self, values: Values) -> int:
        """Norms of a layer. Falcon's attention and MLP are side by side behind one norm, or behind one each."""
        if self is not _FALCON:
            return self.norms
        if values.get("new_decoder_architecture"):
            return int(values.get("num_ln_in_parallel_attn") or 2)
        return 1 if values.get("parallel_attn", True) else 2

    def has_qk_norm(self, values: Values) -> bool:
        return self.qk_norm != "never" and (not self.qk_norm_key or bool(values.get(self.qk_norm_key)))

    def named(self, values: Values) -> dict[str, Any]:
        """``values`` by the names that others have, with this family's defaults for what is missing; null stays."""
        return {**self.defaults, **{self.names.get(key, key): value for key, value in values.items()}}


_QWEN = Family(qkv_bias=True, out_bias=False, mlp_bias=False, defaults={"use_sliding_window": False})
_QWEN3 = Family(mlp_bias=False, qk_norm="head", defaults={"use_sliding_window": False, "head_dim": 128})
_GEMMA = {"tie_word_embeddings": True, "head_dim": 256}
_LATENT = Family(mlp_bias=False, defaults={"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64})
_GLM_4 = Family(out_bias=False, mlp_bias=False, defaults={"head_dim": 128})
_FALCON_NAMES = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_key_value_heads",
    "num_kv_heads": "num_key_value_heads",
    "ffn_hidden_size": "intermediate_size",
}
_CHATGLM_NAMES = {
    "num_layers": "num_hidden_layers",
    "ffn_hidden_size": "intermediate_size",
    "multi_query_group_num": "num_key_value_heads",
    "kv_channels": "head_dim",
    "padded_vocab_size": "vocab_size",
    "seq_length": "max_position_embeddings",
}
_FALCON = Family(
    qkv_bias="bias", out_bias="bias", mlp_bias="bias", mlp_matrices=2, norm_bias=True, names=_FALCON_NAMES,
    defaults={"tie_word_embeddings": True, "max_position_embeddings": 2048},
)  # fmt: skip
_GEMMA_3 = Family(
    mlp_bias=False, norms=4, qk_norm="head", full_every=6,
    defaults=_GEMMA | {
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208, "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
)  # fmt: skip
_LLAMA_4 = Family(
    mlp_bias=False,
    defaults={"num_key_value_heads": 8, "head_dim": 128, "intermediate_size_mlp": 16384, "attention_chunk_size": 8192},
)

ADAPTS_VOCABULARY = frozenset(
    {"llama", "mistral", "ministral", "mixtral", "qwen3", "qwen3_moe", "phi3", "phimoe", "granite", "granitemoe",
     "cohere", "cohere2", "exaone", "exaone4", "nemotron", "solar"}
)  # fmt: skip
"""Kinds whose models in vLLM have ``embedding_modules``: LoRA adapters have room for the vocabulary there."""
JOINT_EXPERT_GATES = frozenset({"gpt_oss", "qwen3_vl_moe_text"})
"""Kinds whose models in vLLM have ``is_3d_moe_weight``."""
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(qkv_bias=False, out_bias=False, mlp_bias=False),
    "ministral": Family(qkv_bias=False, out_bias=False, mlp_bias=False),
    "mixtral": Family(qkv_bias=False, out_bias=False, mlp_bias=False),
    "llama4_text": _LLAMA_4,
    "qwen2": _QWEN,
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen2_vl_text": _QWEN,
    "qwen2_5_vl_text": _QWEN,
    "qwen2_moe": _QWEN,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen3_vl_moe_text": _QWEN3,
    "gemma": Family(mlp_bias=False, defaults=_GEMMA),
    "gemma2": Family(mlp_bias=False, norms=4, full_every=2, defaults=_GEMMA | {"sliding_window": 4096}),
    "gemma3_text": _GEMMA_3,
    "phi": Family(
        qkv_bias=True, out_bias=True, mlp_bias=True, mlp_matrices=2, norms=1, norm_bias=True, head_bias=True
    ),
    "phi3": Family(qkv_bias=False, out_bias=False, mlp_bias=False),
    "phimoe": Family(mlp_bias=False, norm_bias=True, head_bias=True),
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "kimi_k2": _LATENT,
    "glm4_moe_lite": _LATENT,
    "gpt_oss": Family(
        mlp_bias=True, full_every=2, defaults={"attention_bias": True, "head_dim": 64, "sliding_window": 128}
    ),
    "glm": _GLM_4,
    "glm4": Family(out_bias=False, mlp_bias=False, norms=4, defaults={"head_dim": 128}),
    "glm4_moe": Family(out_bias=False, mlp_bias=False, qk_norm="head", qk_norm_key="use_qk_norm"),
    "chatglm": Family(qkv_bias="add_qkv_bias", out_bias=False, mlp_bias=False, names=_CHATGLM_NAMES),
    "cohere": Family(
        mlp_bias=False, norms=1, qk_norm="heads", qk_norm_key="use_qk_norm", defaults={"tie_word_embeddings": True}
    ),
    "cohere2": Family(
        mlp_bias=False, norms=1, full_every=4, defaults={"tie_word_embeddings": True, "sliding_window": 4096}
    ),
    "falcon": _FALCON,
    "refinedweb": _FALCON,
    "refinedwebmodel": _FALCON,
    "granite": Family(),
    "granitemoe": Family(mlp_bias=False),
    "nemotron": Family(mlp_matrices=2, norm_bias=True),
    "nemotron-nas": Family(),
    "olmo2": Family(mlp_bias=False, qk_norm="heads"),
    "starcoder2": Family(
        qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", mlp_matrices=2, norm_bias=True,
        defaults={"tie_word_embeddings": True, "use_bias": True},
    ),
    "minimax_m2": Family(qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm="heads"),
    "seed_oss": Family(qkv_bias="attention_bias", out_bias="attention_out_bias", defaults={"head_dim": 128}),
    "smollm3": Family(defaults={"tie_word_embeddings": True}),
}  # fmt: skip

_HYBRID = "some of its layers are state-space or linear attention, which keep a state instead of KV"
_SPARSE = "an index beside its KV cache chooses what a token looks at"
_UNEQUAL = "its layers have heads of several sizes, or share their KV"
UNMODELLED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "zamba", "zamba2", "bamba", "lfm2"), _HYBRID),
    **dict.fromkeys(("nemotron_h", "granitemoehybrid", "falcon_h1", "plamo2", "minimax", "kimi_linear"), _HYBRID),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "bailing_hybrid", "recurrent_gemma"), _HYBRID),
    **dict.fromkeys(("deepseek_v32", "deepseek_v4", "glm_moe_dsa", "minimax_m3"), _SPARSE),
    **dict.fromkeys(("gemma3n", "gemma3n_text", "gemma4_text", "mimo_v2_flash", "openelm"), _UNEQUAL),
    **dict.fromkeys(("mllama", "mllama_text_model"), "some of its layers look at images"),
}
"""Kinds that cannot be told rightly by a ``ModelSpec``, and why."""
UNMODELLED_KEYS = {
    **dict.fromkeys(("ssm_state_size", "mamba_d_state", "mamba_num_heads", "hybrid_override_pattern"), _HYBRID),
    **dict.fromkeys(("linear_num_key_heads", "linear_attn_config", "ssm_cfg", "lru_width"), _HYBRID),
    **dict.fromkeys(("index_topk", "sparse_attention_config", "compress_ratios"), _SPARSE),
    **dict.fromkeys(("global_head_dim", "swa_head_dim", "num_kv_shared_layers", "hybrid_layer_pattern"), _UNEQUAL),
    **dict.fromkeys(("is_encoder_decoder", "add_cross_attention"), "it has an encoder beside its decoder"),
}
"""Keys that say the same of any kind, where they are set."""
LAYER_KINDS = {
    "full_attention": "full", "attention": "full", "sliding_attention": "window", "chunked_attention": "chunk",
}  # fmt: skip
"""Words of ``layer_types``."""
