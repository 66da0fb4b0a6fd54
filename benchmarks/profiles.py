"""Make the shipped profiles again from the measurements they were fitted to.

    python benchmarks/profiles.py

The data are those of ``../shared/data`` beside the checkout, or ``$KVSIM_DATA``: AIConfigurator's operator tables of an
H100 SXM, and operator times of an RTX PRO 6000 measured by LLMServingSim's profiler.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from places import DATA, ROOT

H100 = (
    ("llama-3.1-8b", 1, "bf16"),
    ("llama-3.1-70b", 4, "bf16"),
    ("llama-3.1-70b", 8, "bf16"),
    ("llama-3.1-70b", 2, "fp8"),
    ("llama-3.1-70b", 4, "fp8"),
    ("llama-3.1-70b", 8, "fp8"),
    ("qwen3-32b", 2, "bf16"),
    ("qwen3-32b", 4, "bf16"),
    ("qwen3-32b", 8, "bf16"),
)
RTX = (("RTXPRO6000_Llama-3.1-8B", "llama-3.1-8b", 1), ("RTXPRO6000_Qwen3-32B", "qwen3-32b", 2))


def main() -> int:
    if not DATA.is_dir():
        sys.stderr.write("no measurements: set KVSIM_DATA\n")
        return 1
    for model, degree, dtype in H100:
        common = ("--model", model, "--gpu", "h100-sxm", "--tensor-parallel", str(degree), "--weight-dtype", dtype)
        _calibrate("aiconfigurator", DATA / "h100_sxm_vllm_0.24.0", f"h100_{model}_tp{degree}_{dtype}", common)
    for folder, model, degree in RTX:
        common = ("--method", "fitted", "--model", model, "--tensor-parallel", str(degree))
        _calibrate("operators", DATA / "measured" / folder, f"rtx-pro-6000_{model}_tp{degree}_bf16", common)
    return 0


def _calibrate(source: str, folder: Path, name: str, options: tuple[str, ...]) -> None:
    output = ROOT / "profiles" / f"{name}.yaml"
    command = [sys.executable, str(ROOT / "main.py"), "calibrate", source, str(folder), "-o", str(output), *options]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
