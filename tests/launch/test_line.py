"""A server's line as a model and vLLM's arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.errors import ConfigError
from kvsim.launch import LaunchLine, read_engine_args, read_launch_line


def test_a_line_is_its_model_and_the_arguments_that_are_given() -> None:
    line = read_launch_line(
        "vllm serve Qwen/Qwen3-32B -tp 2 --no-enable-prefix-caching --max-model-len 32k --port 8001"
    )
    assert line == LaunchLine(
        engine="vllm",
        model="Qwen/Qwen3-32B",
        arguments={"tensor_parallel_size": 2, "enable_prefix_caching": False, "max_model_len": 32_000},
        notes=("without effect on what is simulated: --port",),
        warnings=(),
    )


def test_a_file_is_read_as_a_line(tmp_path: Path) -> None:
    path = tmp_path / "vllm.yaml"
    path.write_text("model: a/b\ntensor_parallel_size: 4\nmax-num-seqs: 32\nenforce-eager: false\n")
    line = read_engine_args(path)
    assert (line.model, line.arguments) == (
        "a/b",
        {"tensor_parallel_size": 4, "max_num_seqs": 32, "enforce_eager": False},
    )
    longer = read_launch_line(f"vllm serve c/d --config {path} --max-num-seqs 64")
    assert (longer.model, longer.arguments["max_num_seqs"], longer.arguments["tensor_parallel_size"]) == ("c/d", 64, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ls -l", r"^'ls -l' starts no server: must be like vllm serve MODEL"),
        ("vllm serve a; vllm serve b", r"^2 servers \('a'; 'b'\): give one at a time"),
        ("vllm serve a b", "vllm serve: 'b' belongs to no flag; the model is 'a'"),
        ("vllm serve a --model b", "vllm serve: two models, 'a' and 'b': give one"),
        ("vllm serve", "vllm serve: no model: --model MODEL must be given"),
        ("vllm serve $MODEL", r"vllm serve: the model is '\$MODEL', which has no value in this text"),
        ("vllm serve a --tensor-size 2", "unknown flag '--tensor-size'; did you mean"),
        ("vllm serve a --max 2", "'--max' may be one of --max-cpu-loras, .*, ...: write it out"),
        ("vllm serve a -tp two", "--tensor-parallel-size/-tp: 'two' must be a whole number"),
        ("vllm serve a -tp $TP", r"--tensor-parallel-size/-tp: '\$TP' has no value in this text: write it out"),
        ("vllm serve a --dtype bf16", "--dtype: 'bf16' must be one of auto, .*; did you mean 'bfloat16'"),
        ("vllm serve a --max-model-len 1.5K", "'1.5K': a binary suffix takes whole numbers; 1.5k?"),
        ("vllm serve a --port", "--port: expected one argument"),
        ("vllm serve a --compilation-config {", "--compilation-config/-cc: '{' must be JSON"),
        ("vllm serve 'a", "the quote before 'a' is never closed"),
        ("vllm serve a --config none.yaml", "^none.yaml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_launch_line(text)
