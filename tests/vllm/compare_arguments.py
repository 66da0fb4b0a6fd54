"""Lines for vLLM's own parser, and its answers held against what kvsim reads from the same lines.

    export PYTHONPATH=tests/launch
    python tests/vllm/compare_arguments.py lines LINES.json --seed S [--count N]
    python tests/vllm/compare_arguments.py check LINES.json ANSWERS.json

The first form writes those of ``tests/launch/launch_recipes.py``, some that ``kvsim recommend`` gives, and N random
ones; ``tests/vllm/arguments.py`` answers them; the second compares: the flags of the parser, for each line every
simulated argument, and on each of four GPUs the token budget, the sequences and the captured sizes of the server. It
exits with 1 at the first difference of a kind.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch_recipes import VLLM_RECIPES

from kvsim.capacity.sources import WordSource
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch.command import server_command
from kvsim.launch.flags import Flag, flags_of
from kvsim.launch.line import LaunchLine, read_launch_line
from kvsim.plan.vllm import engine_keys
from kvsim.recommend import Question
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.paste import configuration_of
from kvsim.recommend.space import Space
from kvsim.spec import find_gpu, find_model
from kvsim.workload.words import word_of

FLAGS = {flag.name: flag for flag in flags_of("vllm") if not flag.is_gone}
SIMULATED = [flag for flag in FLAGS.values() if flag.role == "simulated" and flag.name != "--model"]
LEFT_OUT = ("--model", "--config", "--grpc", "--headless", "--mm-processor-device")
"""The model stands first; a file and other servers are no matter of values; the last's values are the machine's."""
GRAPHS = ("cudagraph_capture_sizes", "max_cudagraph_capture_size", "cudagraph_mode")
"""What is simulated of a compilation configuration."""
WRONG = {"int": "many", "float": "much", "size": "1.5K", "length": "long", "json": "{", "config": "[1]"}
VALUES: dict[str, Sequence[str]] = {
    "--tensor-parallel-size": ("1", "2", "4", "8"),
    "--data-parallel-size": ("1", "2", "8"),
    "--max-model-len": ("auto", "-1", "32k", "32K", "1.5k", "4096", "16"),
    "--max-num-batched-tokens": ("2k", "8K", "512", "16384", "0.5k"),
    "--max-num-scheduled-tokens": ("512", "1k", "None"),
    "--max-num-seqs": ("1", "7", "64", "256", "512"),
    "--max-num-active-seqs": ("1", "None"),
    "--gpu-memory-utilization": ("0.9", ".85", "1", "9e-1"),
    "--kv-cache-memory-bytes": ("20G", "8g", "1073741824"),
    "--block-size": ("16", "32", "64"),
    "--watermark": ("0", "0.01"),
    "--quantization": ("fp8", "awq", "gptq_marlin", "None"),
    "--attention-backend": ("FLASH_ATTN", "FLASHINFER", "FLASHMLA"),
    "--cudagraph-capture-sizes": ("1 2 4", "8 16 512", "64"),
    "--max-cudagraph-capture-size": ("8", "100", "600", "1024"),
    "--optimization-level": ("0", "1", "2", "3"),
    "--compilation-config": (
        '{"cudagraph_mode": "NONE"}',
        '{"cudagraph_mode": "FULL_DECODE_ONLY"}',
        '{"cudagraph_capture_sizes": [1, 2, 8]}',
        '{"max_cudagraph_capture_size": 1k}',
        '{"mode": 3}',
    ),
    "--speculative-config": (
        '{"method": "eagle3", "model": "a/b", "num_speculative_tokens": 3}',
        '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}',
        '{"method": "deepseek_mtp", "num_speculative_tokens": 1}',
        '{"model": "a/b-1b", "num-speculative-tokens": 16}',
        "None",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("lines", "check"))
    parser.add_argument("lines", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=600)
    args = parser.parse_args()
    if args.verb == "lines":
        rng = random.Random(args.seed)
        recipes = [without_gone(server_command(recipe.text).words) for recipe in VLLM_RECIPES]
        drawn = (random_line(rng) for _ in range(args.count))
        args.lines.write_text(json.dumps([*recipes, *recommended_lines(), *drawn]))
        return
    answers = json.loads(args.answers.read_text())
    found = [*table_differences(answers["flags"])]
    values = refused = 0
    for words, answer in zip(json.loads(args.lines.read_text()), answers["lines"], strict=True):
        refused += "refused" in answer
        values += len(answer.get("values", ())) and len(SIMULATED)
        found += [
            f"{' '.join(words)}: {difference}" for difference in line_differences(words, answer, answers["length"])
        ]
    for difference in found[:20]:
        print(difference)
    print(
        f"{len(FLAGS)} flags, {len(answers['lines'])} lines of which vLLM refuses {refused}, {values} values: "
        f"{len(found)} differences"
    )
    sys.exit(bool(found))


def without_gone(words: Sequence[str]) -> list[str]:
    """The words less the flags that present vLLM has no more, with a number for what only a shell knew."""
    gone = {name: flag for flag in flags_of("vllm") if flag.is_gone for name in flag.spellings}
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        flag = gone.get(word.partition("=")[0].replace("_", "-"))
        if flag is None:
            found.append("1" if word.startswith("$") else word)
        elif flag.kind.takes_value and "=" not in word:
            rest.pop(0)
    return found


def recommended_lines() -> list[list[str]]:
    """Those of deployments that ``kvsim recommend`` may come to: unified, prefill and decode, experts shared."""
    source = WordSource(word_of("chat"))
    found = []
    for line, family, counts in (
        ("vllm serve meta-llama/Llama-3.1-70B-Instruct --max-model-len 32k", Family("unified", 4, 4), (2, 0)),
        ("vllm serve meta-llama/Llama-3.1-70B-Instruct -O3 --port 9000", Family("pd", 4, 8), (2, 1)),
        ("vllm serve Qwen/Qwen3-30B-A3B --no-enable-prefix-caching", Family("unified", 1, 1, 8), (2, 0)),
    ):
        question = Question(
            words=line, launch=read_launch_line(line), source=source, gpu="h100-sxm", gpus=16, rate_per_s=1
        )
        candidate = Candidate(family, counts, Arguments(2048, 128, "affinity"))
        servers = configuration_of(question, Space(question), candidate).vllm
        found += [shlex.split(server.command)[2:] for server in servers]
    return found


def random_line(rng: random.Random) -> list[str]:
    """Some flags, most of them simulated ones, in any spelling; now and then a value that no flag of its kind takes."""
    flags = [rng.choice(SIMULATED if rng.random() < 0.6 else list(FLAGS.values())) for _ in range(rng.randrange(1, 12))]
    flags = [flag for flag in flags if flag.name not in LEFT_OUT]
    wrong = rng.randrange(len(flags)) if flags and rng.random() < 0.1 else None
    words = ["org/model"]
    for place, flag in enumerate(flags):
        words += spelt(rng, flag, is_wrong=place == wrong)
    return words


def spelt(rng: random.Random, flag: Flag, is_wrong: bool) -> list[str]:
    name = rng.choice(flag.spellings)
    if name.startswith("--") and rng.random() < 0.3:
        name = "--" + name[2:].replace("-", "_")
    elif name.startswith("--") and rng.random() < 0.15:
        name = beginning(rng, name)
    if not flag.kind.takes_value:
        return [name]
    value = WRONG.get(flag.kind.base, "") if is_wrong else value_of(rng, flag)
    if flag.kind.base == "config" and not is_wrong and flag.name in VALUES and rng.random() < 0.4:
        return dotted(name, value)
    if flag.kind.many in ("+", "*") and " " in value:
        return [name, *value.split()]
    return [f"{name}={value}"] if rng.random() < 0.4 and value else [name, value or "x"]


def beginning(rng: random.Random, name: str) -> str:
    """A part of the name from its start on, which is not the whole name of a flag that is gone."""
    gone = {name for flag in flags_of("vllm") if flag.is_gone for name in flag.spellings}
    part = name[: rng.randrange(len(name) * 2 // 3, len(name) + 1)]
    return name if part in gone else part


def dotted(name: str, value: str) -> list[str]:
    """``--config.key value`` for each key of a configuration."""
    pairs = json.loads(re.sub("1k", "1000", value)).items()
    return [
        word
        for key, below in pairs
        for word in (f"{name}.{key}", below if isinstance(below, str) else json.dumps(below))
    ]


def value_of(rng: random.Random, flag: Flag) -> str:
    if flag.name in VALUES:
        return rng.choice(VALUES[flag.name])
    if flag.kind.choices:
        return rng.choice(flag.kind.choices)
    by_kind = {"int": "3", "float": "0.5", "size": "4k", "length": "4k", "json": "{}", "config": "{}", "ids": "0,1"}
    return by_kind.get(flag.kind.base, "words")


def table_differences(theirs: dict[str, dict[str, Any]]) -> list[str]:
    """Flags that one side has and the other has not, or has otherwise."""
    found = [f"flag {name}: only here" for name in FLAGS.keys() - theirs.keys()]
    for name, flag in theirs.items():
        ours = FLAGS.get(name)
        if ours is None:
            found.append(f"flag {name}: only in vLLM")
            continue
        if set(ours.spellings) != set(flag["names"]):
            found.append(f"flag {name}: {ours.spellings} here, {flag['names']} in vLLM")
        takes = {"BooleanOptionalAction": "flag", "_StoreTrueAction": "switch"}.get(flag["action"])
        if (takes or "value") != (ours.kind.base if not ours.kind.takes_value else "value"):
            found.append(f"flag {name}: {ours.kind} here, {flag['action']} in vLLM")
        many = {"+": "+", "*": "*", "?": "~"}.get(flag["nargs"] or "", "&" if flag["action"] == "_AppendAction" else "")
        if ours.kind.many != many:
            found.append(f"flag {name}: takes {ours.kind.many or 'one'} here, {many or 'one'} in vLLM")
        if ours.kind.choices and not set(flag["choices"] or ()) <= set(ours.kind.choices):
            found.append(f"flag {name}: {ours.kind.choices} here, {flag['choices']} in vLLM")
    return found


def line_differences(words: Sequence[str], answer: dict[str, Any], length: int) -> list[str]:
    """What vLLM takes must be taken here, with the same values; what is refused here must be refused there."""
    text = "vllm serve " + " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    try:
        line = read_launch_line(text)
    except ConfigError as error:
        # vLLM's parser takes any word as a quantisation; the model's configuration refuses it later.
        is_later = "--quantization/-q" in str(error)
        return [] if is_later or "refused" in answer else [f"refused here alone: {error}"]
    if "refused" in answer:
        return [] if is_deeper(answer["refused"]) else [f"refused in vLLM alone: {answer['refused']}"]
    return value_differences(line, answer["values"]) + gpu_differences(line, answer["on"], length)


def is_deeper(refusal: str) -> bool:
    """Whether vLLM refuses what a value means rather than how it is written: keys of a configuration, say."""
    return "pydantic" in refusal or "--lora-modules" in refusal


def value_differences(line: LaunchLine, theirs: dict[str, Any]) -> list[str]:
    found = []
    for flag in SIMULATED:
        ours = line.arguments.get(flag.argument, DEFAULTS)
        value = theirs[flag.argument]
        is_beyond = any(flag.name in warning for warning in line.warnings)
        if ours is DEFAULTS and (is_beyond or is_default(flag.argument, value)):
            continue
        if flag.argument == "compilation_config" and isinstance(ours, dict):
            ours = {key: ours[key] for key in GRAPHS if key in ours}
        if not agree(ours, value):
            found.append(f"{flag.argument} = {ours!r} here, {value!r} in vLLM")
    return found


DEFAULTS: object = object()
DEFAULT_VALUES: dict[str, Any] = {
    "tensor_parallel_size": 1,
    "data_parallel_size": 1,
    "enable_expert_parallel": False,
    "gpu_memory_utilization": 0.92,
    "dtype": "auto",
    "kv_cache_dtype": "auto",
    "long_prefill_token_threshold": 0,
    "scheduling_policy": "fcfs",
    "scheduler_reserve_full_isl": True,
    "watermark": 0.0,
    "enforce_eager": False,
    "optimization_level": "O2",
    "performance_mode": "balanced",
    "all2all_backend": "allgather_reducescatter",
    "dp_sync_interval": 16,
    "enable_eplb": False,
    "max_loras": 1,
    "max_lora_rank": 16,
    "pipeline_parallel_size": 1,
}
"""vLLM's, where they are not None; a configuration is compared by what is given of it."""


def is_default(argument: str, value: Any) -> bool:
    if argument == "compilation_config":
        return value["cudagraph_capture_sizes"] is None and value["cudagraph_mode"] is None
    if argument == "eplb_config":
        return bool(value["num_redundant_experts"] == 0)
    return bool(value == DEFAULT_VALUES.get(argument))


def agree(ours: object, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(agree(value, theirs.get(key)) for key, value in ours.items())
    if isinstance(theirs, str) and isinstance(ours, str):
        return ours.lower() in (theirs.lower(), theirs.lower().removeprefix("o"))
    return bool(ours == theirs)


def gpu_differences(line: LaunchLine, theirs: dict[str, Any], length: int) -> list[str]:
    found = []
    for name, answer in theirs.items():
        arguments = {key: value for key, value in line.arguments.items() if key not in PAST_BATCH}
        try:
            keys = engine_keys(
                Fields("vllm serve", arguments), "", length, gpu=find_gpu(name), model=find_model("qwen3-8b")
            )
        except ConfigError as error:
            if "refused" not in answer:
                found.append(f"on {name} refused here alone: {error}")
            continue
        if "refused" in answer:
            found.append(f"on {name} refused in vLLM alone: {answer['refused'][:300]}")
            continue
        ours = [
            keys["engine.max_num_batched_tokens"],
            keys["engine.max_num_seqs"],
            keys["engine.cudagraph_capture_sizes"],
        ]
        if ours != [answer["max_num_batched_tokens"], answer["max_num_seqs"], answer["capture_sizes"]]:
            found.append(f"on {name} {ours} here, {answer} in vLLM")
    return found


PAST_BATCH = ("max_num_active_seqs", "max_num_scheduled_tokens", "spec_method", "spec_model", "spec_tokens")
"""Limits of the scheduler below those of the batch, which vLLM keeps beside them; and what it reads later."""


if __name__ == "__main__":
    main()
