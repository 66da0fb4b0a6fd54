"""GPUs: names as people and drivers write them, and figures of their data sheets."""

from __future__ import annotations

import pytest

from kvsim.errors import ConfigError
from kvsim.spec import GPUS, find_gpu, known_gpu
from kvsim.units import GIB


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("h100", "h100-sxm"),
        ("h100_sxm", "h100-sxm"),
        ("H100-80G", "h100-sxm"),
        ("h100-sxm5-80gb", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA B200", "b200-sxm"),
        ("NVIDIA GB200", "gb200"),
        ("A100", "a100-80gb-sxm"),
        ("a100-80gb", "a100-80gb-sxm"),
        ("a100-40gb", "a100-40gb-sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb-pcie"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("RTXPRO6000", "rtx-pro-6000"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("AMD Instinct MI325X", "mi325x"),
    ],
)
def test_gpus_however_they_are_spelt(spelt: str, name: str) -> None:
    assert find_gpu(spelt).name == name


@pytest.mark.parametrize(
    "spelt",
    ["NVIDIA GeForce RTX 4090 D", "NVIDIA H20-3e", "NVIDIA H200 NVL", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "h1000", ""],
)
def test_other_parts_are_not_taken_for_one_of_these(spelt: str) -> None:
    assert known_gpu(spelt) is None
    with pytest.raises(ConfigError, match=r"hardware\.gpu: unknown GPU"):
        find_gpu(spelt)


CAPABILITIES = {"a100": (8, 0), "a10": (8, 6), "l4": (8, 9), "h20": (9, 0), "gb200": (10, 0), "rtx-5090": (12, 0)}


@pytest.mark.parametrize("spelt", CAPABILITIES)
def test_capabilities(spelt: str) -> None:
    assert find_gpu(spelt).capability == CAPABILITIES[spelt]


@pytest.mark.parametrize("name", GPUS)
def test_figures_hang_together(name: str) -> None:
    """What processes have is a little less than what is sold, in binary gigabytes as memory chips are counted; parts
    without fp8 units are as fast in it as in bf16, parts with them about twice as fast."""
    gpu = GPUS[name]
    sold_gib = {
        "gh200": 96,
        "h200-sxm": 141,
        "b200-sxm": 180,
        "gb200": 186,
        "h100-nvl": 94,
        "mi300x": 192,
        "mi325x": 256,
    }
    sold_bytes = sold_gib.get(name, round(gpu.memory_bytes / 1e9 / 8) * 8) * GIB
    if name.startswith(("a100", "h100-sxm", "h100-pcie")):
        sold_bytes = gpu.memory_bytes
    assert 0.915 * sold_bytes < gpu.usable_memory_bytes < sold_bytes
    has_fp8 = gpu.capability >= (8, 9) or gpu.capability == (0, 0)
    assert gpu.fp8_flops / gpu.bf16_flops == pytest.approx(2 if has_fp8 else 1, rel=0.02)
    assert gpu.has_nvlink == (gpu.interconnect_bytes_per_s > 64e9)
