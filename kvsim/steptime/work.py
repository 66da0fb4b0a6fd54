"""What a step has to move and to compute on each GPU of an instance, by operator, and how fast that could go at best.

Bytes are those of weights, KV and hidden states that an operator cannot do without: each read or written once a call.
FLOPs are two for each parameter and token, and for attention four for each head, its width and pair of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec import InstanceSpec, ModelSpec
from kvsim.spec.operator_weights import (
    DOWN,
    EMBEDDING,
    EXPERTS,
    GATE_UP,
    LM_HEAD,
    O_PROJ,
    OTHER,
    QKV,
    ROUTER,
    SHARED,
    Weights,
    weights_by_operator,
)
from kvsim.steptime.allreduce import ACTIVATION_BYTES
from kvsim.steptime.batch import Batch

SAMPLER = "sampler"
ATTENTION_PREFILL, ATTENTION_DECODE = "attention_prefill", "attention_decode"
ALLREDUCE, EXCHANGE = "allreduce", "exchange"
PRODUCTS = (QKV, O_PROJ, GATE_UP, DOWN, SHARED, ROUTER, EXPERTS, OTHER)
"""Matrix products of a layer."""
PASSES = (EMBEDDING, "layernorm", "qk_norm", "rotary_emb", "kv_write", "act_fn", "final_layernorm")
"""What is bound by memory whatever the step."""
KERNEL_START_S = 3e-6
"""What a kernel takes that has next to nothing to do, as AIConfigurator's ``system.yaml`` has it for all GPUs."""
EXPERT_START_S = {"mxfp4": 63e-6}
"""What a layer's experts take in the beginning, beside 5 us for each that is touched: routing, sorting and several
kernels. gpt-oss-20b and -120b, tokens dealt out evenly, on one H200 under vLLM 0.19; on two GPUs it is 59 us
(AIConfigurator's ``moe_perf``, w4a16_mxfp4). Experts in other types start within what any kernel takes."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one operator does in a whole step, on one GPU."""

    calls: int
    num_bytes: float = 0.0
    """Read from or written to the GPU's memory."""
    flops: float = 0.0
    link_bytes: float = 0.0
    """Over the GPU's link to its neighbours, each direction."""
    memory_s: float = 0.0
    """At the data sheet's bandwidth; likewise the next two."""
    compute_s: float = 0.0
    link_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """No GPU like this is faster."""
        return max(self.memory_s, self.compute_s, self.link_s)

    @property
    def bound(self) -> str:
        """What its limit is: ``memory``, ``compute``, ``link``."""
        times = {"memory": self.memory_s, "compute": self.compute_s, "link": self.link_s}
        return max(times, key=lambda name: times[name])


def weights_of(spec: InstanceSpec) -> dict[str, Weights]:
    """All weights of ``spec.model`` as it is stored, by operator."""
    return weights_by_operator(spec.model, spec.weight_dtype)


def works_of(spec: InstanceSpec, batch: Batch) -> dict[str, Work]:
    """The work of a step on each GPU, by operator; an operator with nothing to do is left out.

    What tokens travel to other engines' experts depends on what carries them: ``kvsim.steptime.shared_experts`` has it.
    """
    found = _products(spec, batch) | _passes(spec, batch) | _attention(spec, batch) | _links(spec, batch)
    return {name: work for name, work in found.items() if work.limit_s > 0}


def _work(spec: InstanceSpec, calls: int, num_bytes: float, flops: float = 0.0, dtype: str = "bf16") -> Work:
    memory_s, compute_s = num_bytes / spec.gpu.hbm_bytes_per_s, flops / spec.gpu.peak_flops(dtype)
    return Work(calls, num_bytes, flops, memory_s=memory_s, compute_s=compute_s)


def _products(spec: InstanceSpec, batch: Batch) -> dict[str, Work]:
    model, degree, tokens = spec.model, spec.tensor_parallel, batch.tokens
    weights, widths, found = weights_of(spec), _widths(model, degree), {}
    for name in PRODUCTS:
        own = weights.get(name)
        if own is None or not own.params or name == EXPERTS:
            continue
        calls = _layers(model, name)
        num_bytes = own.num_bytes / degree + calls * tokens * widths.get(name, 0.0) * ACTIVATION_BYTES
        dtype = "bf16" if name == ROUTER else spec.weight_dtype
        found[name] = _work(spec, calls, num_bytes, 2 * own.params / degree * tokens, dtype)
    if model.is_moe:
        found[EXPERTS] = experts_work(spec, batch)
    head, hidden_bytes = weights[LM_HEAD], model.hidden_size * ACTIVATION_BYTES
    logits_bytes = model.vocab_size / degree * ACTIVATION_BYTES
    head_bytes = head.num_bytes / degree + batch.seqs * (hidden_bytes + logits_bytes)
    found[LM_HEAD] = _work(spec, 1, head_bytes, 2 * head.params / degree * batch.seqs)
    return found


def _layers(model: ModelSpec, name: str) -> int:
    if name in (QKV, O_PROJ):
        return model.attention_layers
    if not model.is_moe or name == OTHER:
        return model.num_layers
    return model.num_dense_layers if name in (GATE_UP, DOWN) else model.num_layers - model.num_dense_layers


def _widths(model: ModelSpec, degree: int) -> dict[str, float]:
    """16-bit values of a token that each product of a layer reads and writes on one GPU; a router's are few, those
    that it reads fresh from the norm before it."""
    queries, inner = model.num_heads * model.head_dim / degree, model.intermediate_size / degree
    kv_heads = 0.0 if model.is_mla else 2 * max(1.0, model.num_kv_heads / degree)
    return {
        QKV: model.hidden_size + queries + kv_heads * model.head_dim,
        O_PROJ: queries + model.hidden_size,
        GATE_UP: model.hidden_size + (model.mlp_matrices - 1) * inner,
        DOWN: inner + model.hidden_size,
    }


def experts_work(spec: InstanceSpec, batch: Batch, fullest: float = 1.0) -> Work:
    """Routed experts, and copies of them, that are touched by its tokens and those of the engines that share them.

    ``fullest``: tokens of the GPU that gets most of them, over the mean; the work is that GPU's.
    """
    model, everybody = spec.model, batch.tokens * spec.engines_sharing_experts * max(1.0, fullest / spec.expert_excess)
    computed = everybody * model.experts_per_token / model.num_experts
    read = spec.expert_bytes_per_gpu * model.active_experts(everybody, spec.redundant_experts) / model.num_experts
    layers = model.num_layers - model.num_dense_layers
    moved = 2.0 * batch.tokens * model.hidden_size * ACTIVATION_BYTES * layers
    dtype = model.expert_dtype(spec.weight_dtype)
    return _work(spec, layers, read + moved, 2 * model.expert_params * computed * spec.expert_share, dtype)


def expert_starts_s(spec: InstanceSpec) -> float:
    """What the experts of all layers take to start, in a step."""
    model = spec.model
    if not model.is_moe:
        return 0.0
    return (model.num_layers - model.num_dense_layers) * EXPERT_START_S.get(model.expert_dtype(spec.weight_dtype), 0.0)


def _passes(spec: InstanceSpec, batch: Batch) -> dict[str, Work]:
    """Memory-bound passes, those of experts taken for all layers' in a mixture of them."""
    model, degree = spec.model, spec.tensor_parallel
    values = pass_values(model, degree)
    if model.is_moe:
        inner = model.expert_intermediate_size * model.experts_per_token
        values["act_fn"] = model.mlp_matrices * inner / degree
    calls = {"layernorm": 2 * model.num_layers, "act_fn": model.num_layers, EMBEDDING: 1, "final_layernorm": 1}
    scale, found = batch.tokens * ACTIVATION_BYTES, {}
    for name, width in values.items():
        own = calls.get(name, model.attention_layers)
        found[name] = _work(spec, own, own * width * scale)
    return found | {SAMPLER: _work(spec, 1, batch.seqs * model.vocab_size * ACTIVATION_BYTES / degree)}


def pass_values(model: ModelSpec, degree: int) -> dict[str, float]:
    """16-bit values that one call of each memory-bound pass moves for a token, read and written: hidden states, or
    parts of them."""
    heads, kv_heads = model.num_heads / degree, max(1.0, model.num_kv_heads / degree)
    rotated = 2 * (heads + kv_heads) * model.head_dim
    passes = {
        "layernorm": 4.0 * model.hidden_size,
        "rotary_emb": rotated,
        "kv_write": 4 * kv_heads * model.head_dim,
        "act_fn": model.mlp_matrices * model.intermediate_size / degree,
        EMBEDDING: 2.0 * model.hidden_size,
        "final_layernorm": 4.0 * model.hidden_size,
    }
    if model.qk_norm:
        passes["qk_norm"] = rotated
    return passes


def _attention(spec: InstanceSpec, batch: Batch) -> dict[str, Work]:
    """Decodes read the KV of their contexts, chunks that of their prompts, layers with a window no more than that."""
    model, degree = spec.model, spec.tensor_parallel
    layers, heads = model.attention_layers, model.num_heads / degree
    kv_bytes = spec.kv_bytes_per_token / degree
    passed = 2.0 * layers * heads * model.head_dim * ACTIVATION_BYTES  # queries in, values out
    read = sum(each.count * _seen(model, each.context_tokens) for each in batch.decodes)
    pairs = sum(_pairs(model, each.prefix_tokens + each.tokens) - _pairs(model, each.prefix_tokens)
                for each in batch.chunks)  # fmt: skip
    prompts = sum(_seen(model, each.prefix_tokens + each.tokens) for each in batch.chunks)
    width = attention_flops_of_pair(model)
    decode_width = 2.0 * (2 * model.kv_lora_rank + model.rope_head_dim) if model.is_mla else width
    unit = "fp8" if spec.kv_dtype == "fp8" else "bf16"  # integers are brought to 16 bits
    decode_bytes = read * kv_bytes + batch.num_decodes * passed
    prefill_bytes = prompts * kv_bytes + batch.prefilled_tokens * passed
    return {
        ATTENTION_PREFILL: _work(spec, layers, prefill_bytes, width * layers * heads * pairs, unit),
        ATTENTION_DECODE: _work(spec, layers, decode_bytes, decode_width * layers * heads * read, unit),
    }


def attention_flops_of_pair(model: ModelSpec) -> float:
    """FLOPs of one head for a token and one that it looks at: its query times their key, and their value weighted.

    Latent attention's keys have a rotated part beside, which values lack.
    """
    return 4.0 * model.head_dim + (2.0 * model.rope_head_dim if model.is_mla else 0.0)


def _seen(model: ModelSpec, tokens: float) -> float:
    """Tokens that a sequence's last one looks at, in the mean over layers."""
    return tokens - model.window_share * max(0.0, tokens - (model.sliding_window_tokens or 0))


def _pairs(model: ModelSpec, tokens: float) -> float:
    """Pairs of a prompt's tokens and those that they look at, in the mean over layers."""
    beyond = max(0.0, tokens - (model.sliding_window_tokens or 0))
    return tokens * tokens / 2 - model.window_share * beyond * beyond / 2


def _links(spec: InstanceSpec, batch: Batch) -> dict[str, Work]:
    """Sums of hidden states over the GPUs: behind attention and MLP of each layer and the embedding.

    Where a switch adds values up each GPU sends and gets them once; a ring moves 2 (n - 1) / n of that.
    """
    model, degree = spec.model, spec.tensor_parallel
    if degree == 1:
        return {}
    share = 1.0 if spec.gpu.has_nvlink else 2 * (degree - 1) / degree
    moved = allreduces_of_step(spec) * batch.tokens * model.hidden_size * ACTIVATION_BYTES * share
    link_s = moved / spec.gpu.interconnect_bytes_per_s
    return {ALLREDUCE: Work(2 * model.num_layers + 1, link_bytes=moved, link_s=link_s)}


def allreduces_of_step(spec: InstanceSpec) -> float:
    """Sums of hidden states in a step; a gather, which is half of one, counts as that."""
    model = spec.model
    exchanges = model.num_layers - model.num_dense_layers if spec.shares_experts else 0
    return 2 * model.num_layers + 1 - exchanges * (1 - remaining_allreduces(spec))


def remaining_allreduces(spec: InstanceSpec) -> float:
    """Share of the all-reduce behind a layer's experts that an engine of several GPUs still has beside others that
    share them: whole where experts are split in slices, else its tokens are gathered from its GPUs, which is half of
    one."""
    return 1.0 if spec.slices_experts else 0.5
