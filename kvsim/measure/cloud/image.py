"""What a container has: pinned, so that two runs are of the same vLLM."""

from __future__ import annotations

from kvsim.measure.cloud.plan import VLLM

BASE = "nvidia/cuda:13.0.2-devel-ubuntu24.04"
"""The CUDA that vLLM 0.32 and its PyTorch are built for; with a compiler, as some kernels are made on the spot."""
PYTHON = "3.12"
PACKAGES = (f"vllm=={VLLM}", "simpy>=4.1,<5", "scipy>=1.11", "pyyaml>=6.0", "polars>=1.0")
"""vLLM brings numpy, pydantic and aiohttp; the others are what kvsim's client needs besides."""
UV = "0.9.5"
"""What installs them."""
CONTENT = ("config.yaml", "models.json")
"""Files that kvsim ships beside its modules and that its client reads."""
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
