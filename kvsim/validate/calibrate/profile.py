"""Profiles: what was measured, as an overlay that says where it comes from and how far it holds."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.config.overlay import Overlay
from kvsim.spec import InstanceSpec, find_gpu, known_gpu, known_model
from kvsim.steptime import AffineStepTime, Coefficients
from kvsim.steptime.assemble import ALLREDUCE
from kvsim.steptime.curves.tables import Tables, TableStepTime
from kvsim.steptime.operators import Operators
from kvsim.validate.calibrate.operators import Measured

HOST_US, HOST_US_PER_SEQ = 300, 2
"""Host time a step, and a sequence of it, that the GPU does not hide: gaps between kernels, copies of inputs. Of an
engine that schedules asynchronously; chosen on two measured runs of vLLM 0.19 (docs/validation.md)."""
Tree = dict[str, Any]


def operators_file(profile: Path) -> Path:
    """Where a profile's operator times stand: beside it."""
    return profile.with_name(f"{profile.stem}.operators.parquet")


def tables_profile(measured: Measured, profile: Path) -> Tree:
    """The profile of a folder of operator times, which are taken as they are."""
    meta = measured.meta
    tree: Tree = {
        "name": profile.stem,
        "description": _description(meta),
        "sources": {"operators": _sources(measured.files)},
        "provenance": _provenance(meta),
        "validity": validity_of(measured.operators) | _known(meta),
        "fit_error": None,
    }
    gpu = known_gpu(str(meta.get("gpu", meta.get("hardware", ""))))
    overrides: Tree = {"hardware": {"gpu": gpu}} if gpu is not None else {}
    overrides["steptime"] = {
        "method": "tables",
        "operators": operators_file(profile).name,
        "step_overhead_us": HOST_US,
        "sequence_overhead_us": HOST_US_PER_SEQ,
    }
    return tree | {"overrides": overrides}


def residual_profile(base: Overlay, profile: Path, sets: list[str], run: str, errors: Tree) -> Tree:
    """``base`` with the assignments ``sets`` merged in, which a fit on ``run`` found."""
    overrides: Tree = copy.deepcopy(base.layer.tree)
    for assignment in sets:
        path, _, value = assignment.partition("=")
        *sections, key = path.split(".")
        section = overrides
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = rounded(float(value))
    return {
        "name": profile.stem,
        "description": f"{base.metadata['name']}, brought to the measured run {run}.",
        "sources": {"profile": base.metadata.get("sources"), "run": run},
        "provenance": {"method": "residual fit of two numbers", "profile": base.metadata.get("provenance")},
        "validity": base.metadata.get("validity"),
        "fit_error": errors,
        "overrides": overrides,
    }


def fitted_steptime(coefficients: Coefficients) -> Tree:
    """The ``steptime`` section of a fitted profile; figures as many as they are worth."""
    values: Tree = {
        f.name: rounded(getattr(coefficients, f.name)) for f in fields(coefficients) if f.name != "dense_knots"
    }
    values["dense_knots"] = [[rounded(tokens), rounded(time_s)] for tokens, time_s in coefficients.dense_knots]
    return {"method": "fitted", "coefficients": values}


def rounded(value: float) -> float:
    return float(f"{value:.5g}")


def validity_of(operators: Operators) -> Tree:
    """The ranges that were measured."""
    attention = operators.attention
    decode = attention[attention[:, 2] > 0]
    tokens = np.concatenate([rows[:, 0] for name, rows in operators.dense.items() if name != ALLREDUCE])
    return {
        "tokens_per_step": [int(tokens.min()), int(tokens.max())],
        "decodes_per_step": [1, int(decode[:, 2].max())],
        "context_tokens": [1, int(max(decode[:, 3].max(), attention[:, 1].max()))],
    }


def identity(spec: InstanceSpec) -> Tree:
    """What a whole-step profile holds for."""
    return {
        "model": spec.model.name,
        "gpu": spec.gpu.name,
        "tensor_parallel_size": spec.tensor_parallel,
        "weight_dtype": spec.weight_dtype,
        "kv_dtype": spec.kv_dtype,
    }


def fit_error_of(tables: Tables, coefficients: Coefficients) -> Tree:
    """How far the formula is from the tables: mean absolute error of whole steps, in percent."""
    exact, formula = TableStepTime(tables, coefficients), AffineStepTime(coefficients)
    batches = [
        (n, context) for n in (1, 8, 32, 64, 128, 256) for context in (256, 1024, 4096) if n * context <= 1 << 18
    ]
    chunks = [(chunk, prefix) for chunk in (128, 512, 2048) for prefix in (0, 2048)]
    decode = [(formula.decode_span(n, n * k, k)[0], exact.decode_span(n, n * k, k)[0]) for n, k in batches]
    prefill = [(formula.prefill_alone_s(c, p), exact.prefill_alone_s(c, p)) for c, p in chunks]
    mixed = [
        tuple(s.mixed_s(n + c, n + 1, n, n * k, k, s.chunk_work(c, p)) for s in (formula, exact))
        for n, k in batches
        for c, p in chunks
    ]
    return {
        "of": "the formula against the operator times that it was fitted to",
        "decode_steps_mape_pct": _mape(decode),
        "prefill_steps_mape_pct": _mape(prefill),
        "mixed_steps_mape_pct": _mape(mixed),
    }


def _mape(pairs: Iterable[tuple[float, ...]]) -> float:
    ours, theirs = np.array(list(pairs)).T
    return round(float(np.abs(ours / theirs - 1).mean() * 100), 2)


def _sources(files: tuple[Path, ...]) -> list[str]:
    return [f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in files]


def _provenance(meta: Tree) -> Tree:
    kept = ("gpu", "model", "variant", "vllm_version", "cuda_version", "profiled_at", "profiler_version")
    return {"method": "operators measured one by one"} | {key: str(meta[key]) for key in kept if key in meta}


def _description(meta: Tree) -> str:
    model, gpu = meta.get("model", "a model"), meta.get("gpu", "a GPU that is not named")
    return f"Operator times of {model} on {gpu}, interpolated."


def _known(meta: Tree) -> Tree:
    """The model and GPU, where they are known ones."""
    found: Tree = {}
    gpu = known_gpu(str(meta.get("gpu", "")))
    if gpu is not None:
        found["gpu"] = find_gpu(gpu).name
    model = known_model(str(meta.get("model", "")))
    if model is not None:
        found["model"] = model
    return found
