"""One request alone on twenty models and four GPUs, against bytes over bandwidth and FLOPs over peak.

The bounds are worked out here from the shapes of the models; only a data sheet's figures are kvsim's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest

from kvsim.config import LoadedConfig, load_config
from kvsim.errors import CapacityError
from kvsim.plan.build_step_time import build_step_time
from kvsim.plan.explained import Explainer
from kvsim.plan.instance import Instance, instance_of
from kvsim.spec import GPUS, MODELS, GpuSpec, InstanceSpec, ModelSpec
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.explain import Explanation

NAMES = (
    "qwen2.5-0.5b",
    "llama-3.2-1b",
    "gemma-3-4b",
    "qwen2.5-7b",
    "llama-3.1-8b",
    "qwen3-8b",
    "mistral-nemo-12b",
    "llama-2-13b",
    "qwen2.5-14b",
    "gemma-3-27b",
    "qwen3-32b",
    "codellama-34b",
    "llama-3.1-70b",
    "qwen2.5-72b",
    "mixtral-8x7b",
    "qwen3-30b-a3b",
    "gpt-oss-120b",
    "llama-4-scout",
    "qwen3-235b-a22b",
    "deepseek-v2-lite",
)
MACHINES = ("h100-sxm", "a100-80gb-sxm", "l40s", "b200-sxm")
MOST = 2.5
NAMED = {"host", "starts", "fixed", "allreduce"}
"""Reasons for more than ``MOST`` times the bound, which ``kvsim steps`` prints; an all-reduce is one with all it
takes."""
WEIGHT_BYTES = {"bf16": 2.0, "fp16": 2.0, "mxfp4": 0.53125}
STEPS = {
    "decode on 1,024": Batch((Decodes(1, 1024),)),
    "decode on 16,384": Batch((Decodes(1, 16_384),)),
    "prompt of 128": Batch(chunks=(PromptChunk(128),)),
    "prompt of 2,048": Batch(chunks=(PromptChunk(2048),)),
}


class Bound(NamedTuple):
    """Seconds that no arrangement of these GPUs is faster than."""

    whole_s: float
    """Each weight that is needed is read once, each product computed once, all at the same time."""
    apart_s: float
    """Experts after all else: kernels of their own, bound by memory where the others compute."""


def bound(model: ModelSpec, dtype: str, gpu: GpuSpec, degree: int, batch: Batch) -> Bound:
    head = model.vocab_size * model.hidden_size
    body = model.params - model.expert_params - head * (1 if model.tied_embeddings else 2)
    touched = used = 0.0
    if model.is_moe:
        used = model.experts_per_token / model.num_experts
        touched = 1 - (1 - used) ** batch.tokens
    read = (body + head) * WEIGHT_BYTES[dtype] + sum(kv_bytes(model, decode.context_tokens) for decode in batch.decodes)
    flops = 2.0 * body * batch.tokens + 2.0 * head
    for chunk in batch.chunks:
        flops += 4 * model.attention_layers * model.num_heads * model.head_dim * pairs(model, chunk.tokens)
    expert_read = model.expert_params * touched * WEIGHT_BYTES[model.expert_weight_dtype or dtype]
    expert_flops = 2.0 * model.expert_params * used * batch.tokens
    bytes_per_s, flops_per_s = gpu.hbm_bytes_per_s * degree, gpu.bf16_flops * degree
    whole_s = max((read + expert_read) / bytes_per_s, (flops + expert_flops) / flops_per_s)
    apart_s = max(read / bytes_per_s, flops / flops_per_s) + max(expert_read / bytes_per_s, expert_flops / flops_per_s)
    return Bound(whole_s, apart_s)


def kv_bytes(model: ModelSpec, tokens: int) -> float:
    values = model.kv_lora_rank + model.rope_head_dim if model.kv_lora_rank else 2 * model.num_kv_heads * model.head_dim
    window = min(tokens, model.sliding_window_tokens or tokens)
    full_layers = model.attention_layers - model.num_window_layers
    return 2.0 * values * (full_layers * tokens + model.num_window_layers * window)


def pairs(model: ModelSpec, tokens: int) -> float:
    """Of a prompt's tokens with those before them, in the mean over layers."""
    window = min(tokens, model.sliding_window_tokens or tokens)
    inside = window * tokens - window * window / 2
    share = model.num_window_layers / model.attention_layers
    return (1 - share) * tokens * tokens / 2 + share * inside


@cache
def base() -> tuple[LoadedConfig, Instance]:
    loaded = load_config(sets=["engine.num_gpu_blocks_override=1000"], mode="instance")
    return loaded, instance_of(loaded.config)


@cache
def smallest(name: str, gpu: str) -> Explainer:
    """The model on as few of the GPUs as hold it and a request."""
    loaded, like = base()
    model, own = MODELS[name], GPUS[gpu]
    for degree in (1, 2, 4, 8, 16):
        spec = replace(like.spec, model=model, gpu=own, tensor_parallel=degree, weight_dtype=model.weight_dtype)
        if holds(replace(spec, num_blocks_override=None)):
            known = build_step_time(loaded.config, spec)
            settings = replace(like.settings, max_model_len=1 << 20, num_blocks=1 << 20)
            instance = replace(like, spec=spec, settings=settings, step_time=known.step_time, nearest=known.nearest)
            return Explainer(loaded, instance)
    raise AssertionError(f"{name} fits no number of {gpu}")


def holds(spec: InstanceSpec) -> bool:
    try:
        return spec.num_blocks * spec.block_size_tokens >= 4096
    except CapacityError:
        return False


def named_s(found: Explanation) -> float:
    reasons_s = sum(reason.time_s for reason in found.reasons if reason.name in NAMED)
    operators = [one for part in found.parts for one in (part, *part.members)]
    return reasons_s + sum(one.limit_s for one in operators if one.name == "allreduce")


@pytest.mark.parametrize("gpu", MACHINES)
@pytest.mark.parametrize("name", NAMES)
def test_one_request_alone_takes_no_less_than_its_bound_and_no_more_than_it_can_say(name: str, gpu: str) -> None:
    explainer = smallest(name, gpu)
    spec = explainer.instance.spec
    for step, batch in STEPS.items():
        found = explainer.explain(batch)
        limit_s, apart_s = bound(spec.model, spec.weight_dtype, spec.gpu, spec.tensor_parallel, batch)
        assert found.time_s >= limit_s, f"{step}: {found.time_s / limit_s:.2f} x the bound"
        if found.time_s > MOST * limit_s:
            rest = (found.time_s - named_s(found)) / apart_s
            assert rest <= MOST, f"{step}: {found.time_s / limit_s:.2f} x the bound, {rest:.2f} of them unnamed"


def rows() -> Iterator[str]:
    """The table of docs/steps.md: times a bound, and where that is above ``MOST`` the reasons."""
    yield f"| model | GPUs | known | {' | '.join(STEPS)} | above {MOST}: beyond the operators' limits |"
    yield "|---" * (4 + len(STEPS)) + "|"
    for name in NAMES:
        for gpu in MACHINES:
            explainer = smallest(name, gpu)
            spec = explainer.instance.spec
            ratios, reasons = [], []
            for batch in STEPS.values():
                found = explainer.explain(batch)
                limit_s = bound(spec.model, spec.weight_dtype, spec.gpu, spec.tensor_parallel, batch).whole_s
                ratios.append(f"{found.time_s / limit_s:.2f}")
                if found.time_s > MOST * limit_s:
                    reasons += [f"{WORDS[each.name]} {each.time_s / limit_s:.1f}" for each in found.reasons[:2]]
            once = dict(zip([reason.rpartition(" ")[0] for reason in reasons[::-1]], reasons[::-1], strict=True))
            cells = [name, f"{spec.tensor_parallel} x {gpu}", explainer.known, *ratios, ", ".join(once.values())]
            yield f"| {' | '.join(cells)} |"


WORDS = {"starts": "kernel starts", "fixed": "head and launches", "allreduce": "all-reduce"} | {
    name: name for name in ("host", "kernels", "stragglers", "exchange")
}

if __name__ == "__main__":
    print("\n".join(rows()))
