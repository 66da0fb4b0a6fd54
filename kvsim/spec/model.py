"""Models and their arithmetic: bytes and FLOPs, nothing measured.

Source: the models' published ``config.json`` files and model cards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kvsim.errors import ConfigError, nearest

BYTES_PER_VALUE = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer: dense, or a mixture of experts."""

    name: str
    params: float
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int = 0
    """Width of a dense layer's MLP."""
    vocab_size: int = 0
    qk_norm: bool = False
    num_experts: int = 0
    """Routed ones of a layer; 0: a dense model."""
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    num_shared_experts: int = 0
    num_dense_layers: int = 0
    """Layers of a mixture of experts that have no experts."""
    sliding_window_tokens: int | None = None
    num_window_layers: int = 0
    kv_lora_rank: int = 0
    """Rank of multi-head latent attention; 0: ordinary KV heads."""
    rope_head_dim: int = 0

    @property
    def is_moe(self) -> bool:
        return self.num_experts > 0

    @property
    def is_mla(self) -> bool:
        return self.kv_lora_rank > 0

    @property
    def expert_params(self) -> float:
        """Parameters of all routed experts: three matrices each."""
        layers = self.num_layers - self.num_dense_layers
        return 3.0 * layers * self.num_experts * self.hidden_size * self.expert_intermediate_size

    @property
    def active_params(self) -> float:
        """Parameters that one token is multiplied with."""
        if not self.is_moe:
            return self.params
        return self.params - self.expert_params * (1 - self.experts_per_token / self.num_experts)

    def active_experts(self, tokens: float) -> float:
        """Experts of a layer's E that T evenly routed tokens touch: E (1 - (1 - k/E)^T)."""
        touched: float = self.num_experts * (1 - (1 - self.experts_per_token / self.num_experts) ** tokens)
        return touched

    @property
    def window_share(self) -> float:
        """Share of the layers in which a token looks at no more than ``sliding_window_tokens``."""
        return self.num_window_layers / self.num_layers if self.sliding_window_tokens else 0.0

    def kv_bytes_per_token(self, kv_dtype: str) -> float:
        """Keys and values of one token over all layers: 2 x layers x kv_heads x head_dim x bytes.

        Latent attention keeps one latent and one rotated key a layer. Windows do not count: within one, a token is kept
        in every layer.
        """
        values = self.kv_lora_rank + self.rope_head_dim if self.is_mla else 2 * self.num_kv_heads * self.head_dim
        return self.num_layers * values * BYTES_PER_VALUE[kv_dtype]

    def kv_bytes_of_sequence(self, tokens: int, kv_dtype: str) -> float:
        """KV bytes of a sequence; layers with a window keep no more tokens than that."""
        whole = self.kv_bytes_per_token(kv_dtype) * tokens
        if self.sliding_window_tokens is None or tokens <= self.sliding_window_tokens:
            return whole
        return whole * (1 - self.window_share * (1 - self.sliding_window_tokens / tokens))


def _dense(
    name: str,
    billions: float,
    layers: int,
    hidden: int,
    heads: tuple[int, int],
    intermediate: int,
    vocab: int,
    *,
    head_dim: int = 128,
    qk_norm: bool = False,
) -> ModelSpec:
    return ModelSpec(
        name, billions * 1e9, layers, hidden, *heads, head_dim,
        intermediate_size=intermediate, vocab_size=vocab, qk_norm=qk_norm,
    )  # fmt: skip


_LLAMA_VOCAB, _QWEN_VOCAB = 128256, 151936

MODELS = {
    spec.name: spec
    for spec in (
        _dense("llama-3.2-1b", 1.236, 16, 2048, (32, 8), 8192, _LLAMA_VOCAB, head_dim=64),
        _dense("llama-3.2-3b", 3.213, 28, 3072, (24, 8), 8192, _LLAMA_VOCAB),
        _dense("llama-3.1-8b", 8.03, 32, 4096, (32, 8), 14336, _LLAMA_VOCAB),
        _dense("llama-3.1-70b", 70.55, 80, 8192, (64, 8), 28672, _LLAMA_VOCAB),
        _dense("llama-3.3-70b", 70.55, 80, 8192, (64, 8), 28672, _LLAMA_VOCAB),
        _dense("llama-3.1-405b", 405.85, 126, 16384, (128, 8), 53248, _LLAMA_VOCAB),
        _dense("qwen3-1.7b", 1.72, 28, 2048, (16, 8), 6144, _QWEN_VOCAB, qk_norm=True),
        _dense("qwen3-4b", 4.02, 36, 2560, (32, 8), 9728, _QWEN_VOCAB, qk_norm=True),
        _dense("qwen3-8b", 8.19, 36, 4096, (32, 8), 12288, _QWEN_VOCAB, qk_norm=True),
        _dense("qwen3-14b", 14.77, 40, 5120, (40, 8), 17408, _QWEN_VOCAB, qk_norm=True),
        _dense("qwen3-32b", 32.76, 64, 5120, (64, 8), 25600, _QWEN_VOCAB, qk_norm=True),
        _dense("mistral-7b", 7.25, 32, 4096, (32, 8), 14336, 32768),
        ModelSpec(
            "qwen3-30b-a3b", 30.53e9, 48, 2048, 32, 4, 128,
            vocab_size=_QWEN_VOCAB, qk_norm=True, num_experts=128, experts_per_token=8, expert_intermediate_size=768,
        ),
        ModelSpec(
            "qwen3-235b-a22b", 235.1e9, 94, 4096, 64, 4, 128,
            vocab_size=_QWEN_VOCAB, qk_norm=True, num_experts=128, experts_per_token=8, expert_intermediate_size=1536,
        ),
        ModelSpec(
            "mixtral-8x7b", 46.7e9, 32, 4096, 32, 8, 128,
            vocab_size=32000, num_experts=8, experts_per_token=2, expert_intermediate_size=14336,
        ),
        ModelSpec(
            "mixtral-8x22b", 140.6e9, 56, 6144, 48, 8, 128,
            vocab_size=32768, num_experts=8, experts_per_token=2, expert_intermediate_size=16384,
        ),
        ModelSpec(
            "deepseek-v3", 671.0e9, 61, 7168, 128, 128, 128,
            intermediate_size=18432, vocab_size=129280, num_experts=256, experts_per_token=8,
            expert_intermediate_size=2048, num_shared_experts=1, num_dense_layers=3, kv_lora_rank=512, rope_head_dim=64,
        ),
        ModelSpec(
            "gpt-oss-20b", 20.9e9, 24, 2880, 64, 8, 64,
            vocab_size=201088, num_experts=32, experts_per_token=4, expert_intermediate_size=2880,
            sliding_window_tokens=128, num_window_layers=12,
        ),
        ModelSpec(
            "gpt-oss-120b", 116.8e9, 36, 2880, 64, 8, 64,
            vocab_size=201088, num_experts=128, experts_per_token=4, expert_intermediate_size=2880,
            sliding_window_tokens=128, num_window_layers=18,
        ),
    )
}  # fmt: skip

_SUFFIXES = re.compile(r"(-instruct|-it|-hf|-chat|-base|-fp8|-fp8-dynamic|-v0\.\d|-2507)+$")


def find_model(name: str) -> ModelSpec:
    """The known model of that name, also by its Hugging Face id, or what a ``config.json`` describes.

    Raises ``ConfigError`` naming the nearest.
    """
    if name.endswith(".json"):
        from kvsim.spec.huggingface import read_model_config

        return read_model_config(Path(name))
    found = known_model(name)
    if found is None:
        raise ConfigError(f"model.name: unknown model '{name}'; {nearest(_short(name), MODELS)}")
    return MODELS[found]


def known_model(name: str) -> str | None:
    """kvsim's name of it, if there is one; also by its Hugging Face id."""
    return _short(name) if _short(name) in MODELS else None


def _short(name: str) -> str:
    return _SUFFIXES.sub("", name.lower().rpartition("/")[2].removeprefix("meta-"))
