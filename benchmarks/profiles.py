"""Make the shipped profiles again from the measurements they were fitted to.

    python benchmarks/profiles.py [NAME ...]

AIConfigurator's operator tables come from its package, which pip fetches into ``.cache``, and those of an H100 SXM
under vLLM 0.24 from ``../shared/data`` beside the checkout, or ``$KVSIM_DATA``; there are also the operator times of an
RTX PRO 6000 that LLMServingSim's profiler measured.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from places import DATA, ROOT

PACKAGE, CACHE = "aiconfigurator==0.10.0", ROOT / ".cache" / "aiconfigurator"
TABLES = "aiconfigurator/systems/data"
VERSIONS = {
    "h100-sxm": ("h100_sxm/vllm/0.14.0", "h100_sxm/vllm/0.19.0"),
    "a100-80gb-sxm": ("a100_sxm/vllm/0.14.0",),
    "h200-sxm": ("h200_sxm/vllm/0.14.0", "h200_sxm/vllm/0.18.0", "h200_sxm/vllm/0.19.0"),
    "l40s": ("l40s/vllm/0.14.0", "l40s/vllm/0.22.0"),
    "b200-sxm": ("b200_sxm/vllm/0.19.0",),
}
"""Folders of the package, by GPU."""
OURS = {"h100-sxm": "h100_sxm_vllm_0.24.0"}
"""Folders of ``DATA``, by GPU."""


@dataclass(frozen=True)
class Wanted:
    """Instances of one model on one GPU."""

    gpu: str
    model: str
    degrees: tuple[int, ...]
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    experts: str = ""
    """Type of the experts' weights, where the model has them in another."""

    @property
    def named(self) -> str:
        """Its types, in a file's name."""
        return (self.experts or self.dtype) + ("" if self.kv_dtype == "bf16" else f"_kv-{self.kv_dtype}")


INSTANCES = (
    Wanted("h100-sxm", "llama-2-7b", (1,)),
    Wanted("h100-sxm", "llama-2-13b", (1,)),
    Wanted("h100-sxm", "llama-2-70b", (4,)),
    Wanted("h100-sxm", "codellama-34b", (2,)),
    Wanted("h100-sxm", "yi-34b", (2,)),
    Wanted("h100-sxm", "llama-3.1-8b", (1, 2)),
    Wanted("h100-sxm", "llama-3.1-8b", (1,), "fp8"),
    Wanted("h100-sxm", "llama-3.1-70b", (4, 8)),
    Wanted("h100-sxm", "llama-3.1-70b", (2, 4, 8), "fp8"),
    Wanted("h100-sxm", "qwen2.5-7b", (1,)),
    Wanted("h100-sxm", "qwen2.5-32b", (2,)),
    Wanted("h100-sxm", "qwen2.5-72b", (4,)),
    Wanted("h100-sxm", "qwen3-8b", (1,)),
    Wanted("h100-sxm", "qwen3-14b", (1, 2)),
    Wanted("h100-sxm", "qwen3-32b", (2, 4, 8)),
    Wanted("h100-sxm", "qwen3-30b-a3b", (1, 2)),
    Wanted("h100-sxm", "mistral-7b", (1,)),
    Wanted("h100-sxm", "mistral-nemo-12b", (1, 2)),
    Wanted("h100-sxm", "mixtral-8x7b", (2, 4)),
    Wanted("h100-sxm", "mixtral-8x22b", (4, 8)),
    Wanted("h100-sxm", "llama-4-scout", (2, 4), "fp8"),
    Wanted("a100-80gb-sxm", "llama-2-7b", (1,)),
    Wanted("a100-80gb-sxm", "llama-3.1-8b", (1,)),
    Wanted("a100-80gb-sxm", "llama-3.1-70b", (4, 8)),
    Wanted("a100-80gb-sxm", "qwen3-14b", (1,)),
    Wanted("a100-80gb-sxm", "qwen3-32b", (2, 4)),
    Wanted("a100-80gb-sxm", "mistral-nemo-12b", (1,)),
    Wanted("a100-80gb-sxm", "mixtral-8x7b", (2,)),
    Wanted("l40s", "llama-3.1-8b", (1,)),
    Wanted("l40s", "llama-3.1-8b", (1,), "fp8"),
    Wanted("l40s", "qwen3-8b", (1,)),
    Wanted("l40s", "qwen3-14b", (1,)),
    Wanted("h200-sxm", "llama-3.1-8b", (1,)),
    Wanted("h200-sxm", "llama-3.1-70b", (2, 4, 8)),
    Wanted("h200-sxm", "llama-3.1-70b", (1, 2, 4), "fp8"),
    Wanted("h200-sxm", "qwen3-32b", (1, 2)),
    Wanted("h200-sxm", "gpt-oss-20b", (1, 2), experts="mxfp4"),
    Wanted("h200-sxm", "gpt-oss-120b", (1, 2), experts="mxfp4"),
    Wanted("h200-sxm", "qwen3-30b-a3b", (1,), "int4"),
    Wanted("h100-sxm", "qwen3-30b-a3b", (1,), "int4"),
    Wanted("h100-sxm", "llama-3.1-8b", (1,), "fp8", "fp8"),
    Wanted("h100-sxm", "llama-3.1-70b", (4,), "fp8", "fp8"),
    Wanted("h200-sxm", "llama-3.1-70b", (2,), "fp8", "fp8"),
    Wanted("b200-sxm", "llama-3.1-8b", (1,), "nvfp4"),
    Wanted("b200-sxm", "llama-3.1-70b", (1, 2, 4), "nvfp4"),
    Wanted("b200-sxm", "llama-3.1-70b", (1,), "nvfp4", "fp8"),
    Wanted("b200-sxm", "llama-3.1-8b", (1,)),
    Wanted("b200-sxm", "llama-3.1-70b", (1, 2, 4), "fp8"),
)
RTX = (("RTXPRO6000_Llama-3.1-8B", "llama-3.1-8b", 1), ("RTXPRO6000_Qwen3-32B", "qwen3-32b", 2))


def main(names: list[str]) -> int:
    if not DATA.is_dir():
        sys.stderr.write("no measurements: set KVSIM_DATA\n")
        return 1
    tables = _tables()
    failed = 0
    for wanted in INSTANCES:
        folders = [*(tables / version for version in VERSIONS[wanted.gpu])]
        folders += [DATA / OURS[wanted.gpu]] if wanted.gpu in OURS else []
        for degree in wanted.degrees:
            common = ("--model", wanted.model, "--gpu", wanted.gpu, "--weight-dtype", wanted.dtype)
            common += ("--kv-dtype", wanted.kv_dtype)
            name = f"{wanted.gpu.split('-')[0]}_{wanted.model}_tp{degree}_{wanted.named}"
            if not names or name in names:
                failed += _calibrate("aiconfigurator", folders, name, (*common, "--tensor-parallel", str(degree)))
    for folder, model, degree in RTX:
        name = f"rtx-pro-6000_{model}_tp{degree}_bf16"
        if not names or name in names:
            common = ("--method", "fitted", "--model", model, "--tensor-parallel", str(degree))
            failed += _calibrate("operators", [DATA / "measured" / folder], name, common)
    return int(failed > 0)


def _tables() -> Path:
    """The package's tables, fetched once."""
    if not (CACHE / TABLES).is_dir():
        fetch = ("-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), PACKAGE)
        subprocess.run([sys.executable, *fetch], check=True)
        with zipfile.ZipFile(next(CACHE.glob("*.whl"))) as wheel:
            wanted = tuple(f"{TABLES}/{version}/" for versions in VERSIONS.values() for version in versions)
            wheel.extractall(CACHE, [name for name in wheel.namelist() if name.startswith(wanted)])
    return CACHE / TABLES


def _calibrate(source: str, folders: list[Path], name: str, options: tuple[str, ...]) -> int:
    output = ROOT / "profiles" / f"{name}.yaml"
    command = [sys.executable, str(ROOT / "main.py"), "calibrate", source, *map(str, folders), "-o", str(output)]
    return int(subprocess.run([*command, *options], check=False).returncode != 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
