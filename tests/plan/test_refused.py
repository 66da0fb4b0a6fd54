"""Lines with which no server starts: one sentence each; and those that are like them and are served."""

from __future__ import annotations

import pytest

from kvsim.errors import ConfigError
from kvsim.launch import read_launch_line
from kvsim.plan.deployment import load_deployment, server_keys
from kvsim.plan.vllm_defaults import checked_version

LLAMA, QWEN = "vllm serve meta-llama/Llama-3.1-8B-Instruct", "vllm serve Qwen/Qwen3-30B-A3B"
DEEPSEEK = "vllm serve deepseek-ai/DeepSeek-V3 -tp 8"


@pytest.mark.parametrize(
    ("line", "gpu", "said"),
    [
        (f"{LLAMA} --enable-lora --max-loras 4 --max-cpu-loras 3", "h100", "--max-cpu-loras 3: must be at least --max"),
        (f"{QWEN} -dp 2 --data-parallel-size-local 4", "h100", "--data-parallel-size-local 4: must be at most"),
        (f"{QWEN} -tp 2 --enable-eplb", "h100", "--enable-eplb: needs --enable-expert-parallel"),
        (f"{QWEN} -ep --enable-eplb", "h100", "--enable-eplb: needs several GPUs: --tensor-parallel-size or"),
        (f"{QWEN} -dp 2 -ep --enable-eplb --all2all-backend moonep", "h100", "--enable-eplb: must not stand beside"),
        (
            f"{QWEN} -dp 2 -ep --enable-eplb --eplb-config.redundant_experts 2",
            "h100",
            "--eplb-config: no such key 'redundant_experts'; did you mean 'num_redundant_experts'",
        ),
        (f"{QWEN} --eplb-config.x 2", "h100", "--eplb-config: no such key 'x'; allowed: window_size, step_interval"),
        (f"{QWEN} --eplb-config.window_size 0", "h100", "--eplb-config: window_size = 0: must be a whole number"),
        (
            f'{LLAMA} --compilation-config \'{{"cudagraph_mod": "NONE"}}\'',
            "h100",
            "--compilation-config: no such key 'cudagraph_mod'; did you mean 'cudagraph_mode'?",
        ),
        (f"{LLAMA} -ep", "h100", "--enable-expert-parallel: llama-3.1-8b has no experts"),
        (f"{LLAMA} --block-size 17", "h100", "--block-size 17: must be a multiple of 16"),
        (f"{LLAMA} --block-size 8", "mi300x", "--block-size 8: must be a multiple of 16"),
        (f"{DEEPSEEK} --block-size 1", "h200", "--block-size 1: must be a multiple of 16"),
        (f"{DEEPSEEK} --block-size 32 --attention-backend flashmla", "h200", "--block-size 32: must be a multiple of"),
        (f"{LLAMA} --max-model-len 131073", "h100", "--max-model-len 131073: llama-3.1-8b takes up to 131,072 tokens;"),
        (f"VLLM_ALLOW_LONG_MAX_MODEL_LEN=0 {LLAMA} --max-model-len 200k", "h100", "--max-model-len 200000: llama-3.1"),
        ("vllm serve microsoft/Phi-3.5-mini-instruct --max-model-len 140000", "h100", "takes up to 131,072 tokens"),
        (
            "sglang serve --model-path meta-llama/Llama-3.1-8B-Instruct --context-length 140000",
            "h100",
            "sglang.launch_server: --context-length 140000: llama-3.1-8b takes up to 131,072 tokens; allowed with",
        ),
    ],
)  # fmt: skip
def test_what_no_server_starts_with_is_one_line(line: str, gpu: str, said: str) -> None:
    launch = read_launch_line(line)  # The server's own parser takes it.
    with pytest.raises(ConfigError) as caught:
        load_deployment(launch, gpu=gpu)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^(vllm serve|sglang\.launch_server): "):
        server_keys("cluster", launch, gpu=gpu)


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        (f"{LLAMA} --enable-lora --max-loras 4 --max-cpu-loras 4", "h100"),
        (f"{LLAMA} --max-loras 4 --max-cpu-loras 3", "h100"),
        (f"{QWEN} -tp 2 -ep --enable-eplb", "h100"),
        (f"{QWEN} -dp 2 -ep --enable-eplb --eplb-config.step_interval 100 --eplb-config.use_async true", "h100"),
        (f"{LLAMA} --block-size 48", "h100"),
        (f"{DEEPSEEK} --block-size 1", "mi300x"),
        (f"{DEEPSEEK} --block-size 1 --attention-backend ROCM_AITER_MLA", "mi300x"),
        (f"{LLAMA} --max-model-len 131072", "h100"),
        (f"VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 {LLAMA} --max-model-len 200000", "h100"),
        (f"export VLLM_ALLOW_LONG_MAX_MODEL_LEN=true; {LLAMA} --max-model-len 200000", "h100"),
        (
            "docker run -e VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm/vllm-openai meta-llama/Llama-3.1-8B-Instruct "
            "--max-model-len 200000",
            "h100",
        ),
        (f"{LLAMA} --max-model-len 200000 --hf-overrides '{{\"max_position_embeddings\": 262144}}'", "h100"),
        ("vllm serve microsoft/Phi-3.5-mini-instruct --max-model-len 131072", "h100"),
        (f"{LLAMA} --compilation-config '{{\"cudagraph_num_of_warmups\": 1}}'", "h100"),
    ],
)
def test_what_is_like_it_is_served(line: str, gpu: str) -> None:
    assert load_deployment(read_launch_line(line), gpu=gpu).config.engine.tensor_parallel_size >= 1


@pytest.mark.parametrize("text", ["0.0.0", "0.0", "1", "32", "0.32.0 ", "0.32x", "new", "0.-1", "²", "0.1.2.3.4.5"])
def test_what_can_be_no_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^vLLM's version = .*: must be like 0\.32\.0, from 0\.1 on, or absent"):
        checked_version(text)


@pytest.mark.parametrize("text", ["", "0.8.5.post1", "v0.19.0", "0.11.0rc2", "0.11.1rc6.dev211+gabc", "0.32", "9.9.9"])
def test_what_can_be_a_version_is_taken(text: str) -> None:
    assert checked_version(text) == text


@pytest.mark.parametrize(
    ("more", "has_graphs"),
    [
        ("-dp 2 -ep", True),
        ("-dp 2 -ep --all2all-backend deepep_high_throughput", False),
        ("-dp 2 -ep --all2all-backend moonep", False),
        ("-dp 2 -ep --all2all-backend deepep_low_latency", True),
        ("-tp 2 -ep --all2all-backend deepep_high_throughput", True),
    ],
)
def test_some_backends_have_no_graphs(more: str, has_graphs: bool) -> None:
    loaded = load_deployment(read_launch_line(f"{QWEN} {more}"), gpu="h100")
    assert bool(loaded.config.engine.cudagraph_capture_sizes) is has_graphs
