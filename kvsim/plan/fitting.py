"""The requests that a system can serve at all: the model takes them, and the KV blocks of an instance hold them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvsim.config import Config
from kvsim.errors import CapacityError
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.spec import InstanceSpec
from kvsim.workload.workload import Ints, Workload


def fitting_rows(workload: Workload, plan: Plan) -> Ints:
    """The requests of ``workload`` that every system of the plan can serve.

    Raises ``CapacityError`` where there is none; it says how long they are, and which key keeps them out.
    """
    tokens, fits = _tokens(workload, plan), np.ones(len(workload), dtype=np.bool_)
    for asked, most, _ in _limits(plan):
        fits &= tokens[asked] <= most
    if not fits.any():
        raise CapacityError(_why(tokens, plan))
    return np.flatnonzero(fits)


def _tokens(workload: Workload, plan: Plan) -> dict[str, Ints]:
    """What each request asks for: its prompt, and as much of its answer as the model lets it have."""
    prompts = workload.prompt_tokens.astype(np.int64)
    whole = np.minimum(prompts + workload.output_tokens, plan.colocated_settings.max_model_len)
    return {"prompt": prompts, "request": np.maximum(whole, prompts)}


def _limits(plan: Plan) -> Iterator[tuple[str, int, str]]:
    """What is limited, to how many tokens, and by what; the model's own limit first."""
    config, model_tokens = plan.config, plan.colocated_settings.max_model_len
    yield "prompt", model_tokens - 1, f"that model.max_model_len = {model_tokens:,} leaves a prompt"
    for own, asked, name in (
        (_roomiest(plan), "request", "an instance"),
        (plan.prefill, "prompt", "a prefill instance"),
        (plan.decode, "request", "a decode instance"),
    ):
        yield asked, own.settings.room_tokens, f"of KV that {name} holds ({_what_decides(config, own.spec)})"


def _roomiest(plan: Plan) -> Instance:
    """The unified instance that holds most."""
    return max((own.colocated for own in plan.by_kind()), key=lambda instance: instance.settings.room_tokens)


def _what_decides(config: Config, spec: InstanceSpec) -> str:
    """The key that the number of KV blocks follows from."""
    if config.engine.num_gpu_blocks_override is not None:
        return f"engine.num_gpu_blocks_override = {config.engine.num_gpu_blocks_override}"
    for key, capacity_gb in (
        ("cluster.gpu.kv_capacity_gb", config.cluster.gpu.kv_capacity_gb),
        ("hardware.hbm.kv_capacity_gb", config.hardware.hbm.kv_capacity_gb),
    ):
        if capacity_gb is not None:
            return f"{key} = {capacity_gb:g}"
    if config.engine.kv_cache_memory_bytes is not None:
        return f"engine.kv_cache_memory_bytes = {config.engine.kv_cache_memory_bytes}"
    return (
        f"what {spec.model.name} in {spec.weight_dtype} leaves of {config.engine.gpu_memory_utilization:g} of the "
        f"memory of {spec.gpus_in_words}: {spec.tensor_parallel_key}"
    )


def _why(tokens: dict[str, Ints], plan: Plan) -> str:
    """One line: each limit that keeps some out, and the shortest of those."""
    left = np.ones(len(tokens["prompt"]), dtype=np.bool_)
    found = []
    for asked, most, reason in _limits(plan):
        out = left & (tokens[asked] > most)
        if out.any():
            what = "prompts" if asked == "prompt" else "prompts with their answers"
            shortest, count = int(tokens[asked][out].min()), int(out.sum())
            found.append(f"{count:,} {what}, {shortest:,} tokens or more, are longer than the {most:,} tokens {reason}")
            left &= ~out
    return f"no request fits: {'; '.join(found) or 'there is none'}"
