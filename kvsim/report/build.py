"""From an experiment to the report of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvsim.config import LoadedConfig, dump, load_config
from kvsim.modes.experiment import Experiment
from kvsim.record.summary import summarise
from kvsim.report.json_report import RunClock, build_report
from kvsim.units import MILLI


def build(
    clock: RunClock, loaded: LoadedConfig, experiment: Experiment, mode: str, others_cpu_s: float = 0.0
) -> dict[str, Any]:
    """The JSON report of a run; ``others_cpu_s`` is what other processes took for it."""
    config = loaded.config
    slo_ttft_s, slo_tpot_s = config.slo.ttft_ms * MILLI, config.slo.tpot_ms * MILLI
    gpus = experiment.plan.num_gpus
    results = [summarise(r, slo_ttft_s=slo_ttft_s, slo_tpot_s=slo_tpot_s, gpus=gpus) for r in experiment.results]
    status = "incomplete" if experiment.incomplete else None
    preset, seed = loaded.provenance.preset, config.seed
    return build_report(
        run=clock.section(
            mode=mode, preset=preset, seed=seed, results=experiment.results, status=status, others_cpu_s=others_cpu_s
        )
        | {"failures": [failure.report() for failure in experiment.failures]},
        config=dump(config),
        calibration=calibration_section(loaded),
        workload=_workload_section(experiment),
        cluster=experiment.cluster | {"warnings": list(experiment.warnings)},
        results=results,
        studies=experiment.studies,
    )


def calibration_section(loaded: LoadedConfig) -> dict[str, Any]:
    """How the step times are known, and how far they can be trusted."""
    profile = loaded.provenance
    warnings = list(profile.warnings)
    readiness = _readiness(loaded)
    if profile.name is None:
        warnings.append(f"{readiness}; set times against measurements before trusting them")
    return {
        "profile": profile.name,
        "method": loaded.config.steptime.method,
        "sources": profile.sources,
        "validity": profile.validity,
        "readiness": readiness,
        "warnings": warnings,
        "description": profile.description,
        "provenance": profile.provenance,
        "fit_error": profile.fit_error,
        "notes": list(profile.notes),
    }


def _readiness(loaded: LoadedConfig) -> str:
    profile, config = loaded.provenance, loaded.config
    if profile.name is not None:
        fit = "fitted to measurements" if profile.fit_error is not None else "fitted to no run, its error is not known"
        return f"profile {profile.name}: {fit}"
    if config.steptime.method == "fitted":
        return "uncalibrated: fitted coefficients of unknown origin"
    shipped = load_config().config
    same = (config.steptime, config.pd_separation.compute) == (shipped.steptime, shipped.pd_separation.compute)
    return f"uncalibrated: roofline with {'default' if same else 'configured'} efficiencies"


def _workload_section(experiment: Experiment) -> dict[str, Any]:
    workload = experiment.workload
    info = workload.info
    lint = [f"line {found.line}: {found.message}" if found.line else found.message for found in info.lint]
    return {
        "source": info.source,
        "format": info.format,
        "sha256": info.sha256,
        "requests": len(workload),
        "span_s": workload.span_s,
        "prompt_tokens": int(workload.prompt_tokens.sum(dtype=np.int64)),
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
        "infinite_cache_hit_rate": info.infinite_cache_hit_rate,
        "lint": lint,
        "notes": [*info.notes, *experiment.notes],
        "infinite_cache_hit_rate_full_blocks": info.infinite_cache_hit_rate_full_blocks,
        "infinite_cache_hit_rate_tokens": info.infinite_cache_hit_rate_tokens,
        "hash_block_tokens": info.hash_block_tokens,
        "load": experiment.load,
    }
