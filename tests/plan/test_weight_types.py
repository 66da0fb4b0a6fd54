"""Which type the weights of a server have, and what vLLM makes of it on a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch.line import read_launch_line
from kvsim.plan.instance import server_of, spec_of
from kvsim.plan.weight_types import said_of_types
from kvsim.spec import GPUS, find_gpu


def dtype_of(model: str, **arguments: Any) -> Any:
    given = Fields("vllm serve", arguments)
    return server_of(model, given, gpu=find_gpu("h100-sxm"))["model.weight_dtype"]


def said(model: str, dtype: str, gpu: str = "h100-sxm") -> list[str]:
    sets = [f"model.name={model}", f"model.weight_dtype={dtype}", f"hardware.gpu={gpu}"]
    return list(said_of_types(spec_of(load_config(sets=sets, mode="instance").config), model))


@pytest.mark.parametrize(
    ("model", "quantization", "dtype"),
    [
        ("openai/gpt-oss-20b", None, "bf16"),
        ("openai/gpt-oss-20b", "mxfp4", "bf16"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", None, "nvfp4"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "modelopt", "nvfp4"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "awq_marlin", "int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq", "int8_wo"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", None, "int8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", None, "fp8"),
        ("meta-llama/Llama-3.1-8B-Instruct", "fp8", "fp8"),
        ("meta-llama/Llama-3.1-8B-Instruct", "awq", "int4"),
        ("meta-llama/Llama-3.1-8B-Instruct", None, "bf16"),
    ],
)
def test_a_quantised_checkpoint_has_its_own_type(model: str, quantization: str | None, dtype: str) -> None:
    assert dtype_of(model, quantization=quantization) == dtype
    assert dtype_of(model, quantization=quantization, dtype="bfloat16") == dtype


@pytest.mark.parametrize(
    ("model", "quantization", "stored"),
    [
        ("openai/gpt-oss-20b", "fp8", "bf16, experts mxfp4"),
        ("Qwen/Qwen3-32B-FP8", "awq", "fp8"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "fp8", "nvfp4"),
    ],
)
def test_another_method_than_the_checkpoints_is_refused(model: str, quantization: str, stored: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dtype_of(model, quantization=quantization)
    assert str(caught.value) == (
        f"vllm serve: quantization = '{quantization}': vLLM refuses another method than the checkpoint's: {model} is "
        f"stored as {stored}; leave it out"
    )


def test_a_method_that_nobody_knows_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--quantization/-q: 'awq_marln' must .*; did you mean 'awq_marlin'\?"):
        read_launch_line("vllm serve a/b --quantization awq_marln")


def test_units_that_a_gpu_lacks_are_told() -> None:
    for gpu in ("h100-sxm", "l40s", "mi300x", "rtx-pro-6000"):
        assert said("Qwen/Qwen3-32B-FP8", "fp8", gpu) == []
    (fp8,) = said("Qwen/Qwen3-32B-FP8", "fp8", "a100-80gb-sxm")
    assert fp8.startswith("a100-80gb-sxm has no fp8 units: vLLM brings fp8 weights to 16 bits (Marlin)")
    (fp4,) = said("nvidia/Llama-3.1-8B-Instruct-FP4", "nvfp4")
    assert fp4.startswith("h100-sxm has no fp4 units: ")
    assert said("nvidia/Llama-3.1-8B-Instruct-FP4", "nvfp4", "b200-sxm") == []
    assert "Marlin" not in said("nvidia/Llama-3.1-8B-Instruct-FP4", "nvfp4", "mi300x")[0]
    (int8,) = said("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "int8", "b200-sxm")
    assert int8.startswith("vLLM's int8 kernels refuse a b200-sxm ")
    assert said("openai/gpt-oss-20b", "bf16") == said("openai/gpt-oss-20b", "bf16", "a100-80gb-sxm") == []


def test_what_is_made_of_16_bits_is_told() -> None:
    name = "meta-llama/Llama-3.1-8B-Instruct"
    start = "Llama-3.1-8B-Instruct: its weights are stored as bf16; model.weight_dtype = "
    assert said(name, "fp8") == [f"{start}fp8 is what was simulated"]
    (int4,) = said(name, "int4")
    assert int4 == (
        f"{start}int4 is what was simulated, as of a checkpoint stored so: of this one vLLM makes it only by "
        "--quantization bitsandbytes"
    )
    (mxfp4,) = said(name, "mxfp4")
    assert mxfp4 == f"{start}mxfp4 is what was simulated, as of a checkpoint stored so: vLLM makes none of this one"


def test_matrix_units_by_type() -> None:
    peaks = {
        "h100-sxm": {"bf16": 989, "fp8": 1979, "int8": 1978, "int8_wo": 989, "int4": 989, "mxfp4": 989, "nvfp4": 989},
        "a100-80gb-sxm": {"fp8": 312, "int8": 624, "nvfp4": 312},
        "b200-sxm": {"fp8": 4500, "nvfp4": 9000, "mxfp4": 2250, "int4_g32": 2250},
        "rtx-pro-6000": {"nvfp4": 2015},
        "mi300x": {"fp8": 2614, "nvfp4": 1307},
    }
    for gpu, own in peaks.items():
        for dtype, tflops in own.items():
            assert GPUS[gpu].peak_flops(dtype) == tflops * 1e12, (gpu, dtype)


def test_a_configured_peak_is_that_of_every_type() -> None:
    config = load_config(sets=["hardware.peak_tflops=100"], mode="instance").config
    gpu = spec_of(config).gpu
    assert {gpu.peak_flops(dtype) for dtype in ("bf16", "fp8", "int8", "int4", "nvfp4")} == {100e12}
