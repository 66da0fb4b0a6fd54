"""KV cache sizes that vLLM printed beside what the rule of ``kvsim/spec/memory.py`` says: the table of docs/memory.md.

``python tests/spec/kv_logs.py`` prints the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import polars as pl

from kvsim.errors import CapacityError
from kvsim.plan.vllm_defaults import version_of
from kvsim.spec import GPUS, GpuSpec, InstanceSpec, find_gpu, find_model
from kvsim.spec.memory import MemoryArguments
from kvsim.units import GB, GIB, TERA

CSV = Path(__file__).with_suffix(".csv")
SOURCES = {
    "estimator": "https://github.com/ashishkamra/vllm-memory-estimator/blob/8b0e21d1ec49357383758a164129515209b37e7f/test_data/validation_db.json",
    "planner": "https://github.com/llm-d-incubation/llm-d-planner/blob/875a4fd609eef0d70810ac27174ca9b42156d13a/accuracy/accuracy_report.md",
    "benchmark": "https://github.com/llm-d/llm-d-benchmark/blob/259334868c5075da530cc6c90b43fceb11b6e6a7/config_explorer/empirical-vllm-memory-results.md",
    "myoceane": "https://myoceane.fr/index.php/ai-vllm-a100-gemma-4/",
    "tokenkaki": "https://github.com/dariustanrd/tokenkaki",
    "unnamed": "",
}
"""Addresses; ``unnamed``: files of public repositories whose address is not known, which count as checks alone."""
UNNAMED_GPU = GpuSpec("rtx-24gb", 24 * GB, 1e12, 165 * TERA, 330 * TERA, 32 * GB, 128, False, (8, 9), 23.99 * GIB)


@dataclass(frozen=True)
class Comparison:
    """One log: what was printed, and what the rule says of the same engine."""

    row: dict[str, object]
    spec: InstanceSpec

    @property
    def printed(self) -> float:
        """Tokens where they were printed, else GiB."""
        tokens = self.row["kv_tokens"]
        return float(tokens if tokens is not None else self.row["kv_gib"])  # type: ignore[arg-type]

    @property
    def predicted(self) -> float:
        try:
            if self.row["kv_tokens"] is not None:
                return self.spec.kv_cache_tokens
            return self.spec.kv_room_bytes / self.spec.tensor_parallel / GIB
        except CapacityError:
            return 0.0

    @property
    def error(self) -> float:
        return self.predicted / self.printed - 1

    @property
    def is_fitted(self) -> bool:
        return bool(self.row["fitted"])

    @property
    def is_cited(self) -> bool:
        return bool(SOURCES[str(self.row["source"])])


def comparisons() -> list[Comparison]:
    return [Comparison(row, _spec(row)) for row in pl.read_csv(CSV, comment_prefix="#").to_dicts()]


def _spec(row: dict[str, object]) -> InstanceSpec:
    model, gpu = str(row["model"]), str(row["gpu"])
    version = version_of(str(row["vllm"]))
    arguments = MemoryArguments(
        row["batched"], row["seqs"], row["length"], bool(row["eager"]), version >= (0, 14), version
    )  # type: ignore[arg-type]
    spec = InstanceSpec(
        model=find_model(model),
        gpu=find_gpu(gpu) if gpu in GPUS else UNNAMED_GPU,
        tensor_parallel=row["degree"],  # type: ignore[arg-type]
        weight_dtype=str(row["weight_dtype"]),
        kv_dtype=str(row["kv_dtype"]),
        block_size_tokens=16,
        memory_utilisation=row["utilisation"],  # type: ignore[arg-type]
        arguments=arguments,
        expert_parallel=row["experts_over"],  # type: ignore[arg-type]
    )
    if row["own_weights"]:
        return spec
    left = spec.gpu.total_memory_bytes * spec.memory_utilisation - spec.non_kv_memory.total
    return replace(spec, kv_capacity_bytes_per_gpu=left - float(row["weights_gib"]) * GIB)  # type: ignore[arg-type]


def table(found: list[Comparison]) -> list[str]:
    """Markdown, one line a log."""
    lines = [
        "| vLLM | model, weights, KV | GPUs | share | printed | by the rule | error | use | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        row, unit = each.row, "tokens" if each.row["kv_tokens"] is not None else "GiB"
        shown = "{:,.0f}" if unit == "tokens" else "{:.2f}"
        printed, predicted = shown.format(each.printed), shown.format(each.predicted)
        model = f"{row['model']}, {row['weight_dtype']}, {row['kv_dtype']}"
        error = f"{each.error:+.1%}" if abs(each.error) <= 0.03 else f"**{each.error:+.1%}**"
        use = "fit" if each.is_fitted else "check"
        lines.append(
            f"| {row['vllm']} | {model} | {row['degree']} x {row['gpu']} | {row['utilisation']:g} | {printed} {unit} | "
            f"{predicted} | {error} | {use} | {row['source']}: {row['run']} |"
        )
    return lines


def summary(found: list[Comparison]) -> list[str]:
    """How far off, over the logs with an address and over all, those that nothing was fitted on apart."""
    lines = ["| logs | number | within 3% | median error, absolute | largest |", "|---|---|---|---|---|"]
    groups = {
        "with an address, checks": [each for each in found if each.is_cited and not each.is_fitted],
        "with an address, fitted on": [each for each in found if each.is_cited and each.is_fitted],
        "without one, checks": [each for each in found if not each.is_cited and not each.is_fitted],
        "without one, fitted on": [each for each in found if not each.is_cited and each.is_fitted],
    }
    for name, group in groups.items():
        sizes = sorted(abs(each.error) for each in group)
        within = sum(size <= 0.03 for size in sizes)
        lines.append(f"| {name} | {len(sizes)} | {within} | {median(sizes):.1%} | {sizes[-1]:.1%} |")
    return lines


if __name__ == "__main__":
    every = comparisons()
    print("\n".join([*summary(every), "", *table(every)]))
