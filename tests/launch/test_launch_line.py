"""A server's line as a model and vLLM's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.launch import LaunchLine, read_engine_args, read_launch_line
from kvsim.launch.command import server_command
from kvsim.launch.flags import flags_of


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


def test_slots_for_adapters_are_of_adapters_alone() -> None:
    line = "vllm serve a --max-loras 4 --max-lora-rank 32"
    assert read_launch_line(line).notes == ("without effect without --enable-lora: --max-loras, --max-lora-rank",)
    assert read_launch_line(f"{line} --enable-lora").notes == ()


def test_the_variable_for_long_lengths_is_read() -> None:
    line = read_launch_line("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 OTHER=2 vllm serve a")
    assert line.takes_any_length
    assert line.notes == ("environment variables ignored: OTHER",)
    assert not read_launch_line("VLLM_ALLOW_LONG_MAX_MODEL_LEN=no vllm serve a").takes_any_length


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


def test_a_page_of_no_tokens_is_refused() -> None:
    for more in ("", " --max-total-tokens 100"):
        with pytest.raises(ConfigError, match="--page-size 0 must be a whole number >= 1"):
            read_launch_line(f"sglang serve --model-path a/b --page-size 0{more}")


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("--mem-fraction-static 1.5", "a number > 0 and < 1"),
        ("--max-running-requests -4", "a whole number >= 1"),
        ("--cuda-graph-max-bs 0", "a whole number >= 1"),
        ("--context-length 0", "a whole number >= 1"),
        ("--tp-size 0", "a whole number >= 1"),
    ],
)
def test_numbers_that_start_no_sglang_are_named_as_sglang_names_them(flag: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"^sglang.launch_server: {flag} must be {allowed}$"):
        read_launch_line(f"sglang serve --model-path a/b {flag}")


def test_sglang_s_arguments_have_vllm_s_names() -> None:
    line = read_launch_line(
        "sglang serve --model-path a/b --chunked-prefill-size -1 --context-length 8192 --schedule-policy dfs-weight "
        "--max-running-requests 256 --max-total-tokens 100k --disable-overlap-schedule --kv-cache-dtype fp8_e5m2 "
        "--page-size 16 --enable-mixed-chunk"
    )
    assert line.arguments == {
        "prefix_cache": "radix",
        "block_size": 16,
        "tensor_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 16_384,
        "max_model_len": 8192,
        "scheduling_policy": "dfs_weight",
        "max_num_seqs": 256,
        "num_gpu_blocks_override": 6251,
        "async_scheduling": False,
        "kv_cache_dtype": "fp8_e5m2",
        "scheduler": "sglang",
        "enable_mixed_chunk": True,
        "max_prefill_tokens": 16_384,
        "schedule_conservativeness": 1.0,
    }
    assert line.warnings == ()
    lof = read_launch_line("python -m sglang.launch_server --model a --schedule-policy lof")
    assert (lof.arguments["scheduling_policy"], lof.warnings) == ("lof", ())
    urgent = read_launch_line("python -m sglang.launch_server --model a --enable-priority-scheduling")
    assert "scheduler" not in urgent.arguments
    assert "SGLang computes prompts in steps of their own" in urgent.warnings[0]
    other = read_launch_line("python -m sglang.launch_server --model a --schedule-policy random")
    assert other.arguments["scheduling_policy"] == "fcfs"
    assert "not modelled: --schedule-policy random; requests are served in order of arrival" in other.warnings
    with pytest.raises(ConfigError, match="--tp-size 4 must be a multiple of --dp-size 3"):
        read_launch_line("python -m sglang.launch_server --model a --tp 4 --dp 3 --enable-dp-attention")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nohup sudo -E uv run vllm serve a -tp 2 > log.txt 2>&1 &", "-tp 2"),
        ("  512  vllm serve a -tp 2 | tee log", "-tp 2"),
        ("# vllm serve a -tp 2", "-tp 2"),
        ("vllm serve a \\\n> -tp 2 # two", "-tp 2"),
        ("bash -lc 'cd /x && vllm serve a -tp 2'", "-tp 2"),
        ("```bash\nvllm serve a -tp 2\n```\nthen\ncurl localhost:8000/v1/models", "-tp 2"),
        ("!vllm serve a -tp 2 &>/dev/null", "-tp 2"),
        ("uvx vllm@0.11.0 serve a -tp 2", "-tp 2"),
        ("docker run -itd --name vllm --entrypoint vllm -p8000:8000 vllm/vllm-openai serve a -tp 2", "-tp 2"),
        ("TP=2; ARGS='--seed 1 -tp 2'; vllm serve a $ARGS", "--seed 1 -tp 2"),
        ("vllm serve a -tp ${TP:-2}", "-tp 2"),
        ("vllm serve a –tensor-parallel-size 2", "--tensor-parallel-size 2"),
        ("vllm serve a -tp 4 --tensor-parallel-size=2", "-tp 4 --tensor-parallel-size=2"),
        ('root 17 /usr/bin/vllm serve a --kv-transfer-config {"n": 1} -tp 2', '--kv-transfer-config {"n": 1} -tp 2'),
    ],
)
def test_a_server_is_found_through_what_stands_around_it(text: str, words: str) -> None:
    command = server_command(text)
    assert (command.engine, " ".join(command.words)) == ("vllm", f"a {words}")
    assert read_launch_line(text).arguments == {"tensor_parallel_size": 2}


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("-cc.cudagraph_mode NONE -cc.pass_config.a 1k", {"cudagraph_mode": "NONE", "pass_config": {"a": 1000}}),
        ("--compilation-config '{\"max_cudagraph_capture_size\": 1K}'", {"max_cudagraph_capture_size": 1024}),
        (
            "-cc.cudagraph_capture_sizes+ 1,2 -cc.cudagraph_capture_sizes+=4",
            {"cudagraph_capture_sizes": ["1", "2", "4"]},
        ),
        ("-cc '{\"a\": 1}' -cc.b 2", {"b": 2}),
    ],
)
def test_a_configuration_may_be_given_by_its_keys(flags: str, arguments: dict[str, Any]) -> None:
    """As vLLM has it: keys by themselves come last, and replace what was given as a whole."""
    assert read_launch_line(f"vllm serve a {flags}").arguments == {"compilation_config": arguments}


def test_what_is_not_simulated_is_said_once_for_each_thing() -> None:
    line = read_launch_line(
        "vllm serve a --fully-sharded-loras --lora-target-modules o_proj --no-enable-dbo --nnodes 1 "
        "--swap-space 4 "
        '--limit-mm-per-prompt \'{"image": 0}\' --kv-transfer-config \'{"kv_connector": "LMCacheConnectorV1"}\' '
        "--kv-cache-dtype nvfp4 -q compressed-tensors --moe-backend triton --api-key secret --port 1 --cpu-offload-gb 0"
    )
    assert line.arguments == {}
    assert line.warnings == (
        "not modelled: LoRA on parts of the model (--lora-target-modules, --fully-sharded-loras); the prediction is of "
        "a server without it",
        "not modelled: a KV connector (--kv-transfer-config LMCacheConnectorV1); the prediction is of a server without "
        "it",
        "--quantization compressed-tensors does not say how large a weight is; model.weight_dtype is that of the model "
        "or of --dtype",
        "not modelled: --kv-cache-dtype nvfp4; the prediction is of a server without it",
    )
    assert not any("secret" in sentence for sentence in line.notes)
    assert "not in vLLM 0.32 any more: --swap-space" in line.notes


def test_a_size_of_older_servers_is_the_largest_or_all() -> None:
    assert read_launch_line("vllm serve a --cuda-graph-sizes 64").arguments == {"max_cudagraph_capture_size": 64}
    assert read_launch_line("vllm serve a --cuda-graph-sizes 1 2").arguments == {"cudagraph_capture_sizes": [1, 2]}


@pytest.mark.parametrize(
    ("text", "vllm", "sglang"),
    [("1M", 2**20, 10**6), ("1.5k", 1500, 1500), ("1m", 10**6, None), ("2Ki", None, 2048), ("2K", 2048, None)],
)
def test_each_server_has_suffixes_of_its_own(text: str, vllm: int | None, sglang: int | None) -> None:
    for start, flag, name, value in (
        ("vllm serve a", "--max-num-batched-tokens", "max_num_batched_tokens", vllm),
        ("sglang serve --model a", "--context-length", "max_model_len", sglang),
    ):
        if value is None:
            with pytest.raises(ConfigError, match=f"{flag}: '{text}' must be a whole number"):
                read_launch_line(f"{start} {flag} {text}")
        else:
            assert read_launch_line(f"{start} {flag} {text}").arguments[name] == value


NAMES = [name for engine in ("vllm", "sglang") for flag in flags_of(engine) for name in flag.spellings]
PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(lambda name: name[: len(name) * 2 // 3] + "=1"),
    st.sampled_from(
        ["'", '"', "\\", "$X", "$(", "`", ">", "|", "&", ";", "#", "-O", "--", "-", "=", "{", "[[", "\n", "..."]
    ),
    st.sampled_from(["vllm", "serve", "docker", "run", "-m", "sglang.launch_server", "-c", "--config", "32k", "1.5K"]),
    st.text(max_size=8),
)


@given(
    st.sampled_from(["", "vllm serve m ", "python -m sglang.launch_server --model m "]), st.lists(PIECES, max_size=12)
)
def test_any_text_is_a_line_or_one_line_of_error(start: str, pieces: list[str]) -> None:
    try:
        line = read_launch_line(start + " ".join(pieces))
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert line.model
        assert all("\n" not in sentence for sentence in (*line.notes, *line.warnings))


@pytest.mark.parametrize(
    ("flags", "size_gib", "warnings"),
    [
        ("--kv-offloading-size 12.5", 12.5, ()),
        ("--kv-offloading-size 12.5 --kv-offloading-backend native", 12.5, ()),
        (
            "--kv-offloading-size 12.5 --kv-offloading-backend lmcache",
            None,
            (
                "not modelled: KV offloading by LMCache (--kv-offloading-backend); the prediction is of a server "
                "without it",
            ),
        ),
    ],
)
def test_vllms_own_offloading_is_simulated_and_lmcaches_is_not(
    flags: str, size_gib: float | None, warnings: tuple[str, ...]
) -> None:
    line = read_launch_line(f"vllm serve a/b {flags}")
    assert (line.arguments.get("kv_offloading_size"), line.warnings) == (size_gib, warnings)
