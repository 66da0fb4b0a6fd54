"""Profiles: what was measured, as an overlay that says where it comes from and how far it holds."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kvsim.config import Config
from kvsim.config.overlay import Overlay
from kvsim.errors import ConfigError
from kvsim.plan.build_step_time import shape_of
from kvsim.plan.instance import spec_of
from kvsim.plan.plausible import implausible
from kvsim.spec import find_gpu, known_gpu, known_model
from kvsim.steptime import AffineStepTime, Coefficients
from kvsim.steptime.assemble import ALLREDUCE, assemble
from kvsim.steptime.curves.tables import Tables, TableStepTime
from kvsim.steptime.fit import fitted
from kvsim.steptime.operators import Operators
from kvsim.validate.calibrate.operators import MeasuredOperators
from kvsim.validate.calibrate.residual_fit import Residual

HOST_US, HOST_US_PER_SEQ = 300, 2
"""Host time a step, and a sequence of it, that the GPU does not hide: gaps between kernels, copies of inputs. Of an
engine that schedules asynchronously; chosen on two measured runs of vLLM 0.19 (docs/validation.md)."""
Tree = dict[str, Any]


def operators_file(profile: Path) -> Path:
    """Where a profile's operator times stand: beside it."""
    return profile.with_name(f"{profile.stem}.operators.parquet")


@dataclass(frozen=True)
class Profile:
    """A profile's file: ``overrides`` is the overlay, the rest says where it comes from and how far it holds."""

    name: str
    description: str
    sources: Tree
    provenance: Tree
    validity: Tree | None
    fit_error: Tree | None
    overrides: Tree


def tables_profile(measured: MeasuredOperators, profile: Path, gpu: str | None = None) -> Profile:
    """The profile of a folder of operator times, taken as they are; ``gpu`` in place of what the folder says."""
    meta = measured.meta
    gpu = gpu or known_gpu(str(meta.get("gpu", meta.get("hardware", ""))))
    overrides: Tree = {"hardware": {"gpu": gpu}} if gpu is not None else {}
    overrides["steptime"] = {
        "method": "tables",
        "operators": operators_file(profile).name,
        "step_overhead_us": HOST_US,
        "sequence_overhead_us": HOST_US_PER_SEQ,
    }
    return Profile(
        name=profile.stem,
        description=_description(meta),
        sources={"operators": _sources(measured.files)} | measured.licence,
        provenance=_provenance(measured),
        validity=validity_of(measured.operators) | _known(meta),
        fit_error=None,
        overrides=overrides,
    )


def fitted_profile(base: Profile, operators: Operators, config: Config) -> Profile:
    """``base`` with a formula of whole steps in place of the operator times, of the instance that ``config`` is of.

    Raises ``ConfigError`` where the times cannot be those of that instance.
    """
    spec = spec_of(config)
    tables = assemble(operators, shape_of(config, spec))
    coefficients = fitted(tables)
    wrong = implausible(AffineStepTime(coefficients), spec)
    if wrong is not None:
        raise ConfigError(f"{base.name} is not written: {wrong}")
    return replace(
        base,
        description=f"Whole steps of {spec.model.name} on {spec.tensor_parallel} x {spec.gpu.name}: a formula.",
        validity=(base.validity or {}) | spec.identity,
        fit_error=_fit_error(tables, coefficients),
        overrides=base.overrides | {"steptime": _fitted_steptime(coefficients)},
    )


def residual_profile(base: Overlay, profile: Path, residual: Residual, run: str) -> Profile:
    """``base`` brought to the machine of the measured ``run``."""
    overrides: Tree = copy.deepcopy(base.layer.tree)
    for key, value in residual.keys.items():
        *sections, last = key.split(".")
        section = overrides
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = rounded(value)
    errors: Tree = {"fitted_on_first": residual.fitted_on, "mean_error_pct": residual.errors_pct}
    errors |= {"held_out_mean_error_pct": residual.held_out_pct} if residual.held_out_pct else {}
    return Profile(
        name=profile.stem,
        description=f"{base.metadata['name']}, brought to the measured run {run}.",
        sources={"profile": base.metadata.get("sources"), "run": run},
        provenance={"method": "residual fit of two numbers", "profile": base.metadata.get("provenance")},
        validity=base.metadata.get("validity"),
        fit_error=errors,
        overrides=overrides,
    )


def written(profile: Profile) -> bytes:
    """The overlay's file, YAML."""
    text = yaml.safe_dump(asdict(profile), sort_keys=False, allow_unicode=True, width=118, default_flow_style=None)
    return text.encode("utf-8")


def _fitted_steptime(coefficients: Coefficients) -> Tree:
    """The ``steptime`` section of a fitted profile; figures as many as they are worth."""
    values: Tree = {
        f.name: rounded(getattr(coefficients, f.name))
        for f in fields(coefficients)
        if f.name not in ("dense_knots", "drafts_per_seq")
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


def _fit_error(tables: Tables, coefficients: Coefficients) -> Tree:
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
    return [
        f"{path.parent.name}/{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in files
    ]


def _provenance(measured: MeasuredOperators) -> Tree:
    kept = ("gpu", "model", "variant", "vllm_version", "cuda_version", "profiled_at", "profiler_version")
    return {"method": measured.method} | {key: str(measured.meta[key]) for key in kept if key in measured.meta}


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
