"""Models and their arithmetic: bytes and FLOPs, nothing measured.

Which models there are stands in ``models.json`` (``kvsim/spec/catalogue.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.weight_types import UNQUANTISED_BYTES, WEIGHT_BYTES

BYTES_PER_VALUE = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_per_token_head": 1.0, "int8": 1.0}
"""Bytes of a value of KV."""
KV_SCALE_BYTES = {"fp8_per_token_head": 4.0, "int8": 4.0}
"""Bytes of the scale beside each head's key of a token, and beside its value (vLLM's ``*_per_token_head``)."""


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
    hf_id: str = ""
    """The Hugging Face id that it was asked for by, else the first it answers to; empty: none is known."""
    weight_dtype: str = "bf16"
    """In which type the checkpoint has its weights, a name of ``WEIGHT_BYTES``; what runs is configured."""
    expert_weight_dtype: str | None = None
    """Type of the routed experts' weights, of ``WEIGHT_BYTES``, where it is another, whatever is configured."""
    kv_dtype: str | None = None
    """Type of KV that the checkpoint asks for and vLLM takes where it is told none; ``None``: 16 bits."""
    unquantised_params: float = 0.0
    """Part of ``params`` that stays in 16 bits where the weights are quantised: embeddings, output projection, norms,
    biases, routers, and what the checkpoint names besides."""
    extra_params: float = 0.0
    """Loaded beside ``params`` and no part of a token's way, in 16 bits: a vision tower."""
    max_position_embeddings: int = 0
    """Tokens of a sequence at most, as vLLM derives ``max_model_len`` where it is not given; 0: not known."""
    longest_tokens: int = 0
    """The largest ``max_model_len`` that may be given; 0: not known."""
    window_is_chunk: bool = False
    """Layers with a window look back to the start of the chunk of ``sliding_window_tokens`` (Llama 4), not that far."""
    num_kv_layers: int = 0
    """Layers that have attention, and so KV; 0: all."""
    tied_embeddings: bool = False
    """The output projection is the embedding, held once."""
    mlp_matrices: int = 3
    """Matrices of a dense layer's MLP: three where it is gated, else two."""
    note: str = ""
    """What of the model is left out or taken for something else; empty: nothing."""
    q_lora_rank: int = 0
    """Rank of latent attention's queries; 0: they have no latent."""
    adapts_vocabulary: bool = False
    """vLLM's model has embedding and output projection among the layers that LoRA adapters change."""
    joint_expert_gates: bool = False
    """Gate and up projection of an expert are one matrix to adapters (gpt-oss)."""

    @property
    def is_moe(self) -> bool:
        return self.num_experts > 0

    @property
    def is_mla(self) -> bool:
        return self.kv_lora_rank > 0

    @property
    def attention_layers(self) -> int:
        """Layers that have attention, and so KV."""
        return self.num_kv_layers or self.num_layers

    def expert_dtype(self, weight_dtype: str) -> str:
        """Type of the routed experts' weights where the others are stored as ``weight_dtype``."""
        return self.expert_weight_dtype or weight_dtype

    def expert_bytes(self, weight_dtype: str) -> float:
        """Bytes of all routed experts where weights are stored as ``weight_dtype``."""
        return self.expert_params * WEIGHT_BYTES[self.expert_dtype(weight_dtype)]

    def stored_as(self, weight_dtype: str) -> str:
        """``bf16``, or with experts in another type ``bf16, experts mxfp4``."""
        experts = self.expert_dtype(weight_dtype)
        return weight_dtype if not self.is_moe or experts == weight_dtype else f"{weight_dtype}, experts {experts}"

    def other_bytes(self, weight_dtype: str) -> float:
        """Bytes of all other weights of ``params``, the unquantised among them."""
        others = self.params - self.expert_params
        kept = min(self.unquantised_params, others)
        size = WEIGHT_BYTES[weight_dtype]
        return kept * max(size, UNQUANTISED_BYTES) + (others - kept) * size

    @property
    def extra_bytes(self) -> float:
        """Bytes of what is loaded beside the weights that a token is multiplied with."""
        return self.extra_params * UNQUANTISED_BYTES

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
        return self.params - self.expert_params + self.active_expert_params

    @property
    def active_expert_params(self) -> float:
        """Parameters of routed experts that one token is multiplied with."""
        return self.expert_params * self.experts_per_token / self.num_experts if self.is_moe else 0.0

    def active_experts(self, tokens: float, redundant: int = 0) -> float:
        """Experts of a layer's E that T evenly routed tokens touch: E (1 - (1 - k/E)^T).

        ``redundant``: further copies, dealt out evenly; an expert's copies share its tokens, and each counts.
        """
        copies, doubled = divmod(redundant, self.num_experts)
        touched = 0.0
        for experts, each in ((self.num_experts - doubled, copies + 1), (doubled, copies + 2)):
            unhit = (1 - self.experts_per_token / self.num_experts / each) ** tokens
            touched += experts * each * (1 - unhit)
        return touched

    @property
    def window_share(self) -> float:
        """Share of the layers in which a token looks at no more than ``sliding_window_tokens``."""
        return self.num_window_layers / self.attention_layers if self.sliding_window_tokens else 0.0

    def kv_bytes_per_token(self, kv_dtype: str) -> float:
        """Keys and values of one token over all layers with attention: 2 x layers x kv_heads x head_dim x bytes, and
        scales.

        Latent attention keeps one latent and one rotated key a layer. Windows do not count: within one, a token is kept
        in every layer.
        """
        values = self.kv_lora_rank + self.rope_head_dim if self.is_mla else 2 * self.num_kv_heads * self.head_dim
        scales = 0 if self.is_mla else 2 * self.num_kv_heads
        of_layer = values * BYTES_PER_VALUE[kv_dtype] + scales * KV_SCALE_BYTES.get(kv_dtype, 0.0)
        return self.attention_layers * of_layer

    def kv_bytes_of_sequence(self, tokens: int, kv_dtype: str) -> float:
        """KV bytes of a sequence; layers with a window keep no more tokens than that, those with chunks at most."""
        whole = self.kv_bytes_per_token(kv_dtype) * tokens
        if self.sliding_window_tokens is None or tokens <= self.sliding_window_tokens:
            return whole
        return whole * (1 - self.window_share * (1 - self.sliding_window_tokens / tokens))
