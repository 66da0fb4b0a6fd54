"""What a running server says of itself: its model, its version and the arguments that it was started with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvsim.live.ask import Ask
from kvsim.plan.vllm import DTYPES, QUANTISED
from kvsim.spec import known_gpu

_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SECTIONS = {
    "cache_config": ("block_size", "enable_prefix_caching", "num_gpu_blocks", "cache_dtype", "gpu_memory_utilization"),
    "scheduler_config": (
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_num_scheduled_tokens",
        "max_num_active_seqs",
        "long_prefill_token_threshold",
        "enable_chunked_prefill",
        "policy",
        "watermark",
        "scheduler_reserve_full_isl",
        "async_scheduling",
    ),
    "parallel_config": (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "enable_expert_parallel",
    ),
    "model_config": ("enforce_eager", "max_model_len"),
}
"""What is taken of ``/server_info``, which vLLM has in its development mode."""
_NAMES = {"num_gpu_blocks": "num_gpu_blocks_override", "cache_dtype": "kv_cache_dtype", "policy": "scheduling_policy"}
"""Arguments by the names of those of the configuration that say the same."""


@dataclass(frozen=True)
class Told:
    """A server's own words."""

    version: str
    """vLLM's; empty where it does not say."""
    model: str
    """What requests call the model."""
    root: str
    """What the model is, where that is another word: an id, or a folder on the server's machine."""
    arguments: dict[str, object] = field(default_factory=dict)
    """By vLLM's names of engine arguments."""
    sources: tuple[str, ...] = ()
    """Where these are from."""
    gpu: str | None = None
    """kvsim's name of the GPU that it runs on; ``None``: it does not say one that is known."""
    warnings: tuple[str, ...] = ()
    """Sentences on what it has that is not taken over."""


def told_by(ask: Ask) -> Told:
    """Ask for models, version, metrics and server info. Raises ``ConfigError`` where nobody answers, or refuses."""
    model, root, longest = _model(ask)
    version = _text(ask.maybe("/version"), "version")
    arguments: dict[str, object] = {} if longest is None else {"max_model_len": longest}
    sources = [] if longest is None else ["/v1/models"]
    metrics = ask.maybe_text("/metrics")
    found = _cache_info(metrics or "")
    if found:
        arguments |= found
        sources.append("/metrics")
    info = ask.maybe("/server_info?config_format=json")
    info = info if isinstance(info, Mapping) else {}
    known = _server_info(info)
    if known:
        arguments |= known
        sources.append("/server_info")
    return Told(version, model, root, arguments, tuple(sources), _gpu(info), tuple(_beyond(info)))


def _model(ask: Ask) -> tuple[str, str, int | None]:
    found = ask.json("/v1/models")
    entries = found.get("data") if isinstance(found, Mapping) else None
    entries = [each for each in entries if isinstance(each, Mapping)] if isinstance(entries, list) else []
    if not entries or not isinstance(entries[0].get("id"), str):
        raise ask.error("/v1/models", "names no model")
    first = entries[0]
    root, longest = first.get("root"), first.get("max_model_len")
    is_count = isinstance(longest, int) and not isinstance(longest, bool) and longest > 0
    return first["id"], root if isinstance(root, str) else first["id"], longest if is_count else None


def _text(found: Any, key: str) -> str:
    value = found.get(key) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else ""


def _cache_info(metrics: str) -> dict[str, object]:
    """The labels of ``vllm:cache_config_info``, which are Python's words for values."""
    found: dict[str, object] = {}
    for labels in _INFO.findall(metrics):
        for name, text in _LABEL.findall(labels):
            value = _value(text)
            if name in _SECTIONS["cache_config"] and value is not None:
                found[_NAMES.get(name, name)] = value
    return found


def _value(text: str) -> object:
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except ValueError:
        return None if text in ("None", "") else text


def _server_info(info: Mapping[str, Any]) -> dict[str, object]:
    config = info.get("vllm_config")
    if not isinstance(config, Mapping):
        return {}
    found: dict[str, object] = {}
    for section, names in _SECTIONS.items():
        part = _part(config, section)
        found |= {_NAMES.get(name, name): part[name] for name in names if part.get(name) is not None}
    model = _part(config, "model_config")
    dtype, quantisation = str(model.get("dtype")).removeprefix("torch."), model.get("quantization")
    if dtype in DTYPES and quantisation is None:
        found["dtype"] = dtype
    if quantisation in QUANTISED:
        found["quantization"] = quantisation
    return found


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _gpu(info: Mapping[str, Any]) -> str | None:
    """As ``kvsim serve`` names it, or as nvidia-smi does: ``GPU 0: NVIDIA H100 80GB HBM3``, a line each."""
    own, lines = _part(info, "kvsim").get("gpu"), _part(info, "system_env").get("nvidia_gpu_models")
    name = own if own is not None else str(lines or "").partition("\n")[0].partition(": ")[2]
    return known_gpu(str(name)) if name else None


def _beyond(info: Mapping[str, Any]) -> Iterator[str]:
    """What the configuration has that only a line says in words that are read here."""
    for name in ("speculative_config", "lora_config", "kv_transfer_config"):
        if _part(_part(info, "vllm_config"), name):
            yield f"the server has a {name}, which is not taken from it: give its command line by --line"
