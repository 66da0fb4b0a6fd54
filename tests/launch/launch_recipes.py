"""Lines that start servers, written anew after public ones, each with where those are, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RECIPES = "https://github.com/vllm-project/recipes/blob/main"
VLLM = "https://github.com/vllm-project/vllm"
SGLANG = "https://github.com/sgl-project/sglang"


@dataclass(frozen=True)
class Recipe:
    """A line and what is read from it."""

    source: str
    text: str
    model: str
    arguments: dict[str, Any]
    warnings: tuple[str, ...] = ()
    """What each of its warnings is about."""
    version: str = ""
    notes: tuple[str, ...] = field(default=())
    """What some of its notes have in them."""


VLLM_RECIPES = (
    Recipe(
        "https://docs.vllm.ai/projects/recipes/en/latest/DeepSeek/DeepSeek-V3.html",
        "vllm serve deepseek-ai/DeepSeek-R1-0528 \\\n  --tensor-parallel-size 8 \\\n  --enable-expert-parallel \\\n"
        "  --trust-remote-code",
        "deepseek-ai/DeepSeek-R1-0528",
        {"tensor_parallel_size": 8, "enable_expert_parallel": True},
    ),
    Recipe(
        "https://docs.vllm.ai/projects/recipes/en/latest/DeepSeek/DeepSeek-V3.html",
        "$ vllm serve deepseek-ai/DeepSeek-R1-0528 -dp 8 -ep --trust-remote-code",
        "deepseek-ai/DeepSeek-R1-0528",
        {"data_parallel_size": 8, "enable_expert_parallel": True},
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "docker run --gpus all \\\n    --ipc=host -p 8000:8000 \\\n    vllm/vllm-openai --model openai/gpt-oss-20b",
        "openai/gpt-oss-20b",
        {},
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "export HSA_NO_SCRATCH_RECLAIM=1\nexport VLLM_ROCM_USE_AITER=1\n\n"
        "vllm serve openai/gpt-oss-120b --block-size=64 --gpu-memory-utilization 0.95 --tensor-parallel-size=8 "
        "--attention-backend ROCM_AITER_UNIFIED_ATTN -cc.pass_config.fuse_rope_kvcache=True "
        "-cc.use_inductor_graph_partition=True",
        "openai/gpt-oss-120b",
        {
            "block_size": 64,
            "gpu_memory_utilization": 0.95,
            "tensor_parallel_size": 8,
            "attention_backend": "ROCM_AITER_UNIFIED_ATTN",
            "compilation_config": {
                "pass_config": {"fuse_rope_kvcache": "True"},
                "use_inductor_graph_partition": "True",
            },
        },
        notes=("environment variables ignored: HSA_NO_SCRATCH_RECLAIM, VLLM_ROCM_USE_AITER",),
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "# on 8 H100\nvllm serve openai/gpt-oss-120b \\\n  --tensor_parallel_size 8 \\\n  --max-num-seqs 128 \\\n"
        "  --max-num-batched-tokens 10240 \\\n  --max-model-len 131072 \\\n  --gpu-memory-utilization 0.85 \\\n"
        "  --no-enable-prefix-caching",
        "openai/gpt-oss-120b",
        {
            "tensor_parallel_size": 8,
            "max_num_seqs": 128,
            "max_num_batched_tokens": 10240,
            "max_model_len": 131072,
            "gpu_memory_utilization": 0.85,
            "enable_prefix_caching": False,
        },
    ),
    Recipe(
        f"{RECIPES}/moonshotai/Kimi-K2.md",
        "vllm serve moonshotai/Kimi-K2-Instruct --tensor-parallel-size 8 --pipeline-parallel-size 2 --dtype bfloat16 "
        "--quantization fp8 --kv-cache-dtype fp8 --max-model-len 2048 --max-num-seqs 1 --max-num-batched-tokens 1024 "
        "--enable-chunked-prefill --tokenizer-mode auto --trust-remote-code --disable-log-requests",
        "moonshotai/Kimi-K2-Instruct",
        {
            "tensor_parallel_size": 8,
            "pipeline_parallel_size": 2,
            "dtype": "bfloat16",
            "quantization": "fp8",
            "kv_cache_dtype": "fp8",
            "max_model_len": 2048,
            "max_num_seqs": 1,
            "max_num_batched_tokens": 1024,
            "enable_chunked_prefill": True,
        },
        notes=("not in vLLM 0.32 any more: --disable-log-requests",),
    ),
    Recipe(
        f"{RECIPES}/moonshotai/Kimi-K2.md",
        "vllm serve moonshotai/Kimi-K2-Instruct --port 8000 --served-model-name kimi-k2 --data-parallel-size 16 "
        "--data-parallel-size-local 8 --data-parallel-address $MASTER_IP --data-parallel-rpc-port $PORT "
        "--enable-expert-parallel --max-num-batched-tokens 8192 --max-num-seqs 256 --gpu-memory-utilization 0.85 "
        "--enable-auto-tool-choice --tool-call-parser kimi_k2 --trust-remote-code",
        "moonshotai/Kimi-K2-Instruct",
        {
            "data_parallel_size": 16,
            "enable_expert_parallel": True,
            "max_num_batched_tokens": 8192,
            "max_num_seqs": 256,
            "gpu_memory_utilization": 0.85,
        },
    ),
    Recipe(
        f"{RECIPES}/Qwen/Qwen3-Coder-480B-A35B.md",
        "vllm serve Qwen/Qwen3-Coder-480B-A35B-Instruct --max-model-len 32000 --tensor-parallel-size 8 "
        "--enable-auto-tool-choice --tool-call-parser qwen3_coder",
        "Qwen/Qwen3-Coder-480B-A35B-Instruct",
        {"max_model_len": 32000, "tensor_parallel_size": 8},
    ),
    Recipe(
        f"{RECIPES}/Qwen/Qwen3-Coder-480B-A35B.md",
        "VLLM_USE_DEEP_GEMM=1 vllm serve Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8 --data-parallel-size 8 "
        "--enable-expert-parallel --enable-auto-tool-choice --tool-call-parser qwen3_coder",
        "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
        {"data_parallel_size": 8, "enable_expert_parallel": True},
        notes=("environment variables ignored: VLLM_USE_DEEP_GEMM",),
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        "docker run --gpus all --ipc=host -p 8000:8000 \\\n  -v ~/.cache/huggingface:/root/.cache/huggingface \\\n"
        "  vllm/vllm-openai:nightly MiniMaxAI/MiniMax-M2.5 \\\n      --tensor-parallel-size 4 \\\n"
        "      --reasoning-parser minimax_m2_append_think \\\n      --tool-call-parser minimax_m2 \\\n"
        "      --enable-auto-tool-choice --trust-remote-code",
        "MiniMaxAI/MiniMax-M2.5",
        {"tensor_parallel_size": 4},
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        "export VLLM_USE_FLASHINFER_MOE_FP8=0; vllm serve MiniMaxAI/MiniMax-M2.5 --tensor-parallel-size 2 "
        "--block-size 32 --gpu-memory-utilization 0.95 --tool-call-parser minimax_m2 --enable-auto-tool-choice",
        "MiniMaxAI/MiniMax-M2.5",
        {"tensor_parallel_size": 2, "block_size": 32, "gpu_memory_utilization": 0.95},
        notes=("environment variables ignored: VLLM_USE_FLASHINFER_MOE_FP8",),
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        'vllm serve MiniMaxAI/MiniMax-M2.5 -tp 4 --compilation-config "{\\"cudagraph_mode\\": \\"PIECEWISE\\"}" '
        "--enable-auto-tool-choice --tool-call-parser minimax_m2",
        "MiniMaxAI/MiniMax-M2.5",
        {"tensor_parallel_size": 4, "compilation_config": {"cudagraph_mode": "PIECEWISE"}},
    ),
    Recipe(
        f"{RECIPES}/Llama/Llama3.1-405B-ROCm.md",
        "export VLLM_ROCM_USE_AITER=1\nexport VLLM_USE_V1=1\n\nvllm serve amd/Llama-3.1-405B-Instruct-FP8-KV/ \\\n"
        "    --tensor-parallel-size 1 \\\n    --max-num-batched-tokens 32768 \\\n    --no-enable-prefix-caching \\\n"
        "    --disable-log-requests \\\n    --gpu_memory_utilization 0.9 \\\n    --async-scheduling \\\n"
        '    --load-format safetensors \\\n    --compilation-config \'{"cudagraph_mode":"FULL_AND_PIECEWISE", '
        '"custom_ops": ["-rms_norm", "-quant_fp8"]}\' \\\n    --kv-cache-dtype fp8 \\\n    --port 8000 \\\n',
        "amd/Llama-3.1-405B-Instruct-FP8-KV/",
        {
            "tensor_parallel_size": 1,
            "max_num_batched_tokens": 32768,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.9,
            "async_scheduling": True,
            "compilation_config": {
                "cudagraph_mode": "FULL_AND_PIECEWISE",
                "custom_ops": ["-rms_norm", "-quant_fp8"],
            },
            "kv_cache_dtype": "fp8",
        },
    ),
    Recipe(
        f"{RECIPES}/Qwen/Qwen3-Next.md",
        "vllm serve Qwen/Qwen3-Next-80B-A3B-Instruct --tensor-parallel-size 4 --gpu-memory-utilization 0.8 "
        "--tokenizer-mode auto --no-enable-chunked-prefill "
        '--speculative-config \'{"method": "qwen3_next_mtp", "num_speculative_tokens": 2}\'',
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        {
            "tensor_parallel_size": 4,
            "gpu_memory_utilization": 0.8,
            "enable_chunked_prefill": False,
            "speculative_config": {"method": "qwen3_next_mtp", "num_speculative_tokens": 2},
        },
    ),
    Recipe(
        f"{RECIPES}/Qwen/Qwen3-Next.md",
        "VLLM_TUNED_CONFIG_FOLDER=tuned_moe vllm serve Qwen/Qwen3-Next-80B-A3B-Instruct \\\n"
        "  --served-model-name qwen3-next \\\n  --tensor-parallel-size 4 \n\n",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        {"tensor_parallel_size": 4},
    ),
    Recipe(
        f"{RECIPES}/GLM/GLM.md",
        "vllm serve zai-org/GLM-4.7-FP8 --tensor-parallel-size 4 --speculative-config.method mtp "
        "--speculative-config.num_speculative_tokens 1 --tool-call-parser glm47 --reasoning-parser glm45 "
        "--enable-auto-tool-choice",
        "zai-org/GLM-4.7-FP8",
        {"tensor_parallel_size": 4, "speculative_config": {"method": "mtp", "num_speculative_tokens": 1}},
    ),
    Recipe(
        f"{RECIPES}/GLM/GLM.md",
        "model_name=zai-org/GLM-4.5-Air\nSAFETENSORS_FAST_GPU=1 \\\nvllm serve $model_name \\\n"
        "    --tensor-parallel-size 8 \\\n    --gpu-memory-utilization 0.9 \\\n    --disable-log-requests \\\n"
        "    --no-enable-prefix-caching \\\n    --trust-remote-code",
        "zai-org/GLM-4.5-Air",
        {"tensor_parallel_size": 8, "gpu_memory_utilization": 0.9, "enable_prefix_caching": False},
        notes=("environment variables ignored: SAFETENSORS_FAST_GPU",),
    ),
    Recipe(
        f"{RECIPES}/Llama/Llama3.3-70B.md",
        "vllm serve nvidia/Llama-3.3-70B-Instruct-FP8 --kv-cache-dtype fp8 --async-scheduling "
        "--no-enable-prefix-caching --max-num-batched-tokens 8192 --tensor-parallel-size 1 --max-num-seqs 512 "
        "--max-model-len 10240 &",
        "nvidia/Llama-3.3-70B-Instruct-FP8",
        {
            "kv_cache_dtype": "fp8",
            "async_scheduling": True,
            "enable_prefix_caching": False,
            "max_num_batched_tokens": 8192,
            "tensor_parallel_size": 1,
            "max_num_seqs": 512,
            "max_model_len": 10240,
        },
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "vllm serve openai/gpt-oss-120b --no-enable-prefix-caching --max-cudagraph-capture-size 2048 "
        "--max-num-batched-tokens 8192 --stream-interval 20 --tensor-parallel-size 1 &",
        "openai/gpt-oss-120b",
        {
            "enable_prefix_caching": False,
            "max_cudagraph_capture_size": 2048,
            "max_num_batched_tokens": 8192,
            "tensor_parallel_size": 1,
        },
        ("tokens sent several at a time (--stream-interval)",),
    ),
    Recipe(
        "https://qwen.readthedocs.io/en/stable/deployment/vllm.html",
        "export VLLM_USE_MODELSCOPE=true\nvllm serve Qwen/Qwen3-8B --tensor-parallel-size 4",
        "Qwen/Qwen3-8B",
        {"tensor_parallel_size": 4},
    ),
    Recipe(
        "https://docs.vllm.ai/projects/recipes/en/latest/Qwen/Qwen3.5.html",
        "vllm serve Qwen/Qwen3.6-35B-A3B --max-model-len 262144 --tensor-parallel-size 8 --reasoning-parser qwen3 "
        '--speculative-config \'{"method": "mtp", "num_speculative_tokens": 2}\'',
        "Qwen/Qwen3.6-35B-A3B",
        {
            "max_model_len": 262144,
            "tensor_parallel_size": 8,
            "speculative_config": {"method": "mtp", "num_speculative_tokens": 2},
        },
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "# one A100 is enough\nvllm serve openai/gpt-oss-20b",
        "openai/gpt-oss-20b",
        {},
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "vllm serve openai/gpt-oss-120b --tensor-parallel-size 4",
        "openai/gpt-oss-120b",
        {"tensor_parallel_size": 4},
    ),
    Recipe(
        f"{RECIPES}/OpenAI/GPT-OSS.md",
        "vllm serve openai/gpt-oss-120b --tensor-parallel-size 1 --kv-cache-dtype fp8 --no-enable-prefix-caching "
        "--max-cudagraph-capture-size 2048 --max-num-batched-tokens 8192 --stream-interval 20 --speculative-config "
        '\'{"model":"nvidia/gpt-oss-120b-Eagle3-v2","num_speculative_tokens":3,"method":"eagle3"}\' &',
        "openai/gpt-oss-120b",
        {
            "tensor_parallel_size": 1,
            "kv_cache_dtype": "fp8",
            "enable_prefix_caching": False,
            "max_cudagraph_capture_size": 2048,
            "max_num_batched_tokens": 8192,
            "speculative_config": {
                "model": "nvidia/gpt-oss-120b-Eagle3-v2",
                "num_speculative_tokens": 3,
                "method": "eagle3",
            },
        },
        ("tokens sent several at a time",),
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        "vllm serve MiniMaxAI/MiniMax-M2.5 --enable-expert-parallel --data-parallel-size 8 "
        "--reasoning-parser minimax_m2_append_think --tool-call-parser minimax_m2 --enable-auto-tool-choice",
        "MiniMaxAI/MiniMax-M2.5",
        {"enable_expert_parallel": True, "data_parallel_size": 8},
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        "vllm serve MiniMaxAI/MiniMax-M2.5 --enable-expert-parallel --tensor-parallel-size 8 "
        "--reasoning-parser minimax_m2_append_think --tool-call-parser minimax_m2 --enable-auto-tool-choice",
        "MiniMaxAI/MiniMax-M2.5",
        {"enable_expert_parallel": True, "tensor_parallel_size": 8},
    ),
    Recipe(
        f"{RECIPES}/MiniMax/MiniMax-M2.md",
        "VLLM_ROCM_USE_AITER=1 vllm serve MiniMaxAI/MiniMax-M2.5 --tensor-parallel-size 2 --trust-remote-code "
        "--reasoning-parser minimax_m2_append_think --tool-call-parser minimax_m2 --enable-auto-tool-choice",
        "MiniMaxAI/MiniMax-M2.5",
        {"tensor_parallel_size": 2},
        notes=("environment variables ignored: VLLM_ROCM_USE_AITER",),
    ),
    Recipe(
        f"{RECIPES}/GLM/GLM.md",
        "vllm serve zai-org/GLM-4.5-Air-FP8 \\\n     --tensor-parallel-size 8 \\\n     --reasoning-parser glm45 \\\n"
        "     --tool-call-parser glm45 \\\n     --enable-auto-tool-choice --max-model-len=65536",
        "zai-org/GLM-4.5-Air-FP8",
        {"tensor_parallel_size": 8, "max_model_len": 65536},
    ),
    Recipe(
        f"{RECIPES}/Llama/Llama3.3-70B.md",
        "vllm serve nvidia/Llama-3.3-70B-Instruct-FP4 --kv-cache-dtype fp8 --async-scheduling "
        "--no-enable-prefix-caching --max-num-batched-tokens 8192 --tensor-parallel-size 1 --max-num-seqs 512 "
        '--max-model-len 10240 --compilation-config \'{"pass_config":{"eliminate_noops":true}}\'',
        "nvidia/Llama-3.3-70B-Instruct-FP4",
        {
            "kv_cache_dtype": "fp8",
            "async_scheduling": True,
            "enable_prefix_caching": False,
            "max_num_batched_tokens": 8192,
            "tensor_parallel_size": 1,
            "max_num_seqs": 512,
            "max_model_len": 10240,
            "compilation_config": {"pass_config": {"eliminate_noops": True}},
        },
    ),
    Recipe(
        f"{RECIPES}/Llama/Llama4-Scout.md",
        "vllm serve nvidia/Llama-4-Scout-17B-16E-Instruct-FP8 --tensor-parallel-size 1 --max-model-len 10240 "
        "--max-num-seqs 512 --kv-cache-dtype fp8 --async-scheduling --no-enable-prefix-caching "
        "--max-num-batched-tokens 8192 > server.log 2>&1 &",
        "nvidia/Llama-4-Scout-17B-16E-Instruct-FP8",
        {
            "tensor_parallel_size": 1,
            "max_model_len": 10240,
            "max_num_seqs": 512,
            "kv_cache_dtype": "fp8",
            "async_scheduling": True,
            "enable_prefix_caching": False,
            "max_num_batched_tokens": 8192,
        },
    ),
    Recipe(
        "https://qwen.readthedocs.io/en/stable/deployment/vllm.html",
        "vllm serve Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B",
        {},
    ),
    Recipe(
        f"{VLLM}/pull/12569",
        "VLLM_USE_V1=1 vllm serve neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8 "
        "--gpu-memory-utilization 0.98 --max-model-len 2048",
        "neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8",
        {"gpu_memory_utilization": 0.98, "max_model_len": 2048},
        notes=("environment variables ignored: VLLM_USE_V1",),
    ),
    Recipe(
        f"{VLLM}/issues/17739",
        "sudo docker run --ipc=host --log-opt max-size=10m --log-opt max-file=1 --rm -it --gpus '\"device=0\"' "
        '--env "VLLM_USE_MODELSCOPE=True" --env "VLLM_USE_V1=0" -p 8000:8000 '
        "--mount type=bind,source=/home/me/.cache,target=/root/.cache vllm/vllm-openai:v0.8.5 "
        "--model swift/Qwen3-30B-A3B-AWQ -q awq --tensor-parallel-size 1 --max-model-len 4000 --dtype half "
        "--gpu-memory-utilization 0.92 --no-enable-prefix-caching --disable-log-requests",
        "swift/Qwen3-30B-A3B-AWQ",
        {
            "quantization": "awq",
            "tensor_parallel_size": 1,
            "max_model_len": 4000,
            "dtype": "half",
            "gpu_memory_utilization": 0.92,
            "enable_prefix_caching": False,
        },
        version="0.8.5",
        notes=("environment variables ignored: VLLM_USE_MODELSCOPE, VLLM_USE_V1",),
    ),
    Recipe(
        "https://github.com/dphnAI/sonar/issues/562",
        "sudo docker run --shm-size=32g --log-opt max-size=10m --rm -it --gpus '\"device=0,1,2,3\"' -p 9000:8000 "
        "--mount type=bind,source=/home/me/.cache,target=/root/.cache vllm/vllm-openai:v0.5.3.post1 "
        "--model casperhansen/llama-3-70b-instruct-awq --tensor-parallel-size 4 --dtype half "
        "--gpu-memory-utilization 0.92 -q awq",
        "casperhansen/llama-3-70b-instruct-awq",
        {"tensor_parallel_size": 4, "dtype": "half", "gpu_memory_utilization": 0.92, "quantization": "awq"},
        version="0.5.3",
    ),
    Recipe(
        f"{VLLM}/issues/6228",
        "(nlp) azureuser@dev-8xa100-b:/mnt/llama_expr$ NAME='Llama-3-70B-Instruct' && "
        "python -m vllm.entrypoints.openai.api_server --model /home/azureuser/Meta-Llama-3-70B-Instruct/ "
        "--served-model-name $NAME --tensor-parallel-size 8 --trust-remote-code --host 0.0.0.0 --port 8000",
        "/home/azureuser/Meta-Llama-3-70B-Instruct/",
        {"tensor_parallel_size": 8},
    ),
    Recipe(
        f"{VLLM}/issues/11206",
        "ModelName=mistralai/Mistral-7B-Instruct-v0.3; python3 -m vllm.entrypoints.openai.api_server "
        "--model $ModelName --gpu_memory_utilization 0.90 --quantization fp8",
        "mistralai/Mistral-7B-Instruct-v0.3",
        {"gpu_memory_utilization": 0.9, "quantization": "fp8"},
    ),
    Recipe(
        f"{VLLM}/issues/28228",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True VLLM_USE_V1=1 CUDA_VISIBLE_DEVICES=0,1 \\\n"
        "  vllm serve cyankiwi/Kimi-Linear-48B-A3B-Instruct-AWQ-4bit \\   \n  --port 8111 "
        "--gpu-memory-utilization 0.95 --max_model_len 120000 --tensor_parallel 2 --enable_prefix_caching \\\n"
        "  --max_num_batched_tokens 64000 --max-num-seqs 8 --trust-remote-code --enable-auto-tool-choice "
        "--tool-call-parser kimi_k2",
        "cyankiwi/Kimi-Linear-48B-A3B-Instruct-AWQ-4bit",
        {
            "gpu_memory_utilization": 0.95,
            "max_model_len": 120000,
            "tensor_parallel_size": 2,
            "enable_prefix_caching": True,
            "max_num_batched_tokens": 64000,
            "max_num_seqs": 8,
        },
        notes=("environment variables ignored: PYTORCH_CUDA_ALLOC_CONF, VLLM_USE_V1, CUDA_VISIBLE_DEVICES",),
    ),
    Recipe(
        f"{SGLANG}/pull/9812",
        "vllm serve Qwen/Qwen2.5-VL-7B-Instruct \\\n    --tensor-parallel-size 1 \\\n    --max-num-seqs 256 \\\n"
        "    --max-num-batched-tokens 8192 \\\n    --gpu-memory-utilization 0.8 \\\n"
        "    --no-enable-prefix-caching \\\n    -O0 \\\n    --disable-mm-preprocessor-cache \\\n    --port 8000",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {
            "tensor_parallel_size": 1,
            "max_num_seqs": 256,
            "max_num_batched_tokens": 8192,
            "gpu_memory_utilization": 0.8,
            "enable_prefix_caching": False,
            "optimization_level": "0",
        },
        notes=("not in vLLM 0.32 any more: --disable-mm-preprocessor-cache",),
    ),
    Recipe(
        "https://github.com/huggingface/blog/pull/3432",
        "hf jobs run --flavor h200x2 --expose 8000 --timeout 2h \\\n  vllm/vllm-openai:latest \\\n"
        "  vllm serve Qwen/Qwen3.5-122B-A10B \\\n  --tensor-parallel-size 2 --max-model-len 32768 \\\n"
        "  --max-num-seqs 256 --host 0.0.0.0 --port 8000",
        "Qwen/Qwen3.5-122B-A10B",
        {"tensor_parallel_size": 2, "max_model_len": 32768, "max_num_seqs": 256},
    ),
    Recipe(
        "https://github.com/gpustack/runner/pull/251",
        "vllm serve /models/Qwen3.6-27B-AWQ-MTP --speculative-config "
        '\'{"method": "mtp", "num_speculative_tokens": 3}\' --disable-access-log-for-endpoints /metrics '
        "--enable-prompt-tokens-details --max-model-len=262144 --dtype=auto --tensor-parallel-size=2 "
        "--reasoning-parser=qwen3 --gpu-memory-utilization=0.82 --max-num-batched-tokens=8192 --max-num-seqs=6 -O3 "
        '--override-generation-config=\'{"temperature": 0.6, "top_p": 0.95}\'',
        "/models/Qwen3.6-27B-AWQ-MTP",
        {
            "max_model_len": 262144,
            "dtype": "auto",
            "tensor_parallel_size": 2,
            "gpu_memory_utilization": 0.82,
            "max_num_batched_tokens": 8192,
            "max_num_seqs": 6,
            "optimization_level": "3",
            "speculative_config": {"method": "mtp", "num_speculative_tokens": 3},
        },
    ),
    Recipe(
        f"{VLLM}/issues/51041",
        "docker run -d --name vllm-server --gpus '\"device=2,3,5,6\"' --ipc host --ulimit stack=-1 -p 8526:8526 "
        "-v /models/DeepSeek-V4-Flash:/model vllm/vllm-openai:v0.26.0-cu129 /model --block-size 256 "
        "--kv-cache-dtype fp8 --enable-expert-parallel --tensor-parallel-size 4 --max-num-batched-tokens 8192 "
        "--max-num-seqs 32 --gpu-memory-utilization 0.9 --tokenizer-mode deepseek_v4 --trust-remote-code "
        "--reasoning-parser deepseek_v4 --tool-call-parser deepseek_v4 --enable-auto-tool-choice",
        "/model",
        {
            "block_size": 256,
            "kv_cache_dtype": "fp8",
            "enable_expert_parallel": True,
            "tensor_parallel_size": 4,
            "max_num_batched_tokens": 8192,
            "max_num_seqs": 32,
            "gpu_memory_utilization": 0.9,
        },
        version="0.26.0",
    ),
)

SGLANG_RECIPES = (
    Recipe(
        f"{SGLANG}/pull/657",
        "python3 -m sglang.launch_server --model internlm/internlm2-chat-7b --disable-radix-cach --stream-interval 1 "
        "--trust-remote-code",
        "internlm/internlm2-chat-7b",
        {"enable_prefix_caching": False},
    ),
    Recipe(
        f"{SGLANG}/issues/810",
        "python3 -m sglang.launch_server --model-path neuralmagic/Meta-Llama-3-70B-Instruct-FP8 --tp 8 "
        "--disable-radix-cache",
        "neuralmagic/Meta-Llama-3-70B-Instruct-FP8",
        {"tensor_parallel_size": 8, "enable_prefix_caching": False},
    ),
    Recipe(
        f"{SGLANG}/pull/8552",
        "python3 -m sglang.launch_server --model-path /dev/shm/DeepSeek-R1-FP4 --tp-size 4 "
        "--quantization modelopt_fp4 --enable-flashinfer-trtllm-moe --disable-shared-experts-fusion "
        "--trust-remote-code ",
        "/dev/shm/DeepSeek-R1-FP4",
        {"tensor_parallel_size": 4, "quantization": "modelopt_fp4"},
    ),
    Recipe(
        "https://github.com/flagos-ai/sglang-plugin-FL/pull/40",
        "python3 -m sglang.launch_server \\\n  --model-path /models/Qwen3.6-35B-A3B \\\n  --tp-size 4 --pp-size 2 \\\n"
        "  --host 0.0.0.0 --port 30000 \\\n  --disable-piecewise-cuda-graph \\\n  --mem-fraction-static 0.75 \\\n"
        "  --cuda-graph-max-bs 70 \\\n  --reasoning-parser qwen3 \\\n  --sampling-backend flashinfer \\\n",
        "/models/Qwen3.6-35B-A3B",
        {"tensor_parallel_size": 4, "static_memory_fraction": 0.75, "max_cudagraph_capture_size": 70},
        ("pipeline parallelism",),
    ),
    Recipe(
        "https://github.com/simon-mo/vLLM-Benchmark/issues/2",
        "SGL_ENABLE_JIT_DEEPGEMM=1 python3 -m sglang.launch_server --model deepseek-ai/DeepSeek-V3 --tp 8 --dp-size 8 "
        "--enable-dp-attention --enable-mixed-chunk --trust-remote-code",
        "deepseek-ai/DeepSeek-V3",
        {
            "tensor_parallel_size": 1,
            "data_parallel_size": 8,
            "enable_expert_parallel": True,
            "enable_mixed_chunk": True,
        },
    ),
)
SGLANG_ALWAYS = {
    "prefix_cache": "radix",
    "block_size": 1,
    "tensor_parallel_size": 1,
    "data_parallel_size": 1,
    "async_scheduling": True,
    "scheduling_policy": "fcfs",
    "scheduler": "sglang",
    "enable_mixed_chunk": False,
    "max_prefill_tokens": 16_384,
    "schedule_conservativeness": 1.0,
}
"""What is said of every SGLang server, unless a line says otherwise."""
