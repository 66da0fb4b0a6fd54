"""What vLLM's parser takes of a line and its configurations refuse, whatever the model is.

Source: vLLM 0.32, ``LoRAConfig``, ``EPLBConfig``, ``ParallelConfig`` and ``VllmConfig``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from kvsim.launch.command import ServerCommand
from kvsim.launch.flags import Engine

EPLB_LEAST = {"window_size": 1, "step_interval": 1, "num_redundant_experts": 0, "log_balancedness_interval": 1}
"""Numbers of ``--eplb-config``, and the least of each."""
EPLB_KEYS = (*EPLB_LEAST, "log_balancedness", "use_async", "policy", "communicator", "enable_migration_batching")
GRAPH_KEYS = ("cudagraph_mode", "cudagraph_capture_sizes", "max_cudagraph_capture_size")
"""What of ``--compilation-config`` is simulated."""
OTHER_GRAPH_KEYS = (
    "cudagraph_num_of_warmups",
    "cudagraph_copy_inputs",
    "cudagraph_specialize_lora",
    "cudagraph_mm_encoder",
    "cudagraph_decoder_replay",
    "cudagraph_separate_routine",
    "decoder_replay_cudagraph_capture_sizes",
    "max_capture_size",
    "full_cuda_graph",
    "use_cudagraph",
)
"""Keys that are like those and are others, of any version."""
LENGTH_VARIABLES: dict[Engine, str] = {
    "vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
}
"""Variables with which a server takes a length above its model's own."""
MODEL_CONFIG = ("--hf-overrides", "--hf-config-path", "--rope-scaling", "--json-model-override-args")
"""Flags that change what the model's own length is."""


def takes_any_length(command: ServerCommand, given: Mapping[str, Any]) -> bool:
    """Whether ``max_model_len`` may be above what the model's own config says."""
    variable = command.environment.get(LENGTH_VARIABLES[command.engine], "").strip().lower()
    return variable in ("1", "true") or any(given.get(flag) not in (None, "{}", {}) for flag in MODEL_CONFIG)


def refusals_of(engine: Engine, given: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each of ``given``, values by the first name of their flag, with which no server starts."""
    if engine != "vllm":
        return ()
    return (*_loras(given), *_engines(given), *_eplb_config(given), *_eplb(given), *_compilation(given))


def _loras(given: Mapping[str, Any]) -> Iterator[str]:
    slots, kept = _whole(given, "--max-loras"), given.get("--max-cpu-loras")
    if given.get("--enable-lora") and kept is not None and _whole(given, "--max-cpu-loras") < slots:
        yield f"--max-cpu-loras {kept}: must be at least --max-loras, {slots}"


def _engines(given: Mapping[str, Any]) -> Iterator[str]:
    size, local = _whole(given, "--data-parallel-size"), _whole(given, "--data-parallel-size-local")
    if "--data-parallel-size" in given and local > size:
        yield f"--data-parallel-size-local {local}: must be at most --data-parallel-size, {size}"


def _eplb_config(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in (given.get("--eplb-config") or {}).items():
        if key not in EPLB_KEYS:
            close = difflib.get_close_matches(key, EPLB_KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(EPLB_KEYS)}"
            yield f"--eplb-config: no such key {key!r:.60}; {hint}"
        least = EPLB_LEAST.get(key)
        if least is not None and (type(value) is not int or value < least):
            yield f"--eplb-config: {key} = {value!r:.60}: must be a whole number from {least}"


def _eplb(given: Mapping[str, Any]) -> Iterator[str]:
    if not given.get("--enable-eplb"):
        return
    if not given.get("--enable-expert-parallel"):
        yield "--enable-eplb: needs --enable-expert-parallel"
    sizes = ("--tensor-parallel-size", "--data-parallel-size", "--prefill-context-parallel-size")
    if all(_whole(given, size) == 1 for size in sizes):
        yield "--enable-eplb: needs several GPUs: --tensor-parallel-size or --data-parallel-size above 1"
    if given.get("--all2all-backend") == "moonep":
        yield "--enable-eplb: must not stand beside --all2all-backend moonep"


def _compilation(given: Mapping[str, Any]) -> Iterator[str]:
    """Keys that are nearly those that are simulated, and are of no version."""
    for key in given.get("--compilation-config") or {}:
        close = difflib.get_close_matches(key, GRAPH_KEYS, n=1, cutoff=0.8)
        if close and key not in (*GRAPH_KEYS, *OTHER_GRAPH_KEYS):
            yield f"--compilation-config: no such key {key!r:.60}; did you mean {close[0]!r}?"


def _whole(given: Mapping[str, Any], flag: str) -> int:
    """1 where it is not given, or not known in this text."""
    value = given.get(flag, 1)
    return value if isinstance(value, int) else 1
