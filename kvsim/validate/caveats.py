"""What speaks against a comparison: another model, GPU or degree than was measured, or one that nobody can tell."""

from __future__ import annotations

from kvsim.config import Config, LoadedConfig, derived
from kvsim.config.overlay import outside_validity
from kvsim.plan.nearest_profile import NearestProfile
from kvsim.plan.scheduler_rules import said_of_version
from kvsim.plan.vllm_defaults import is_version
from kvsim.spec import find_model, known_gpu, known_model, model_file

FAR_OFF_PCT = 25.0
"""No profile of the right GPU was ever found that far off (docs/validation.md)."""


def profile_caveats(loaded: LoadedConfig) -> list[str]:
    """Where the run leaves the profile, and what the profile does not say."""
    found, config = list(loaded.provenance.warnings), loaded.config
    validity = loaded.provenance.validity
    if not isinstance(validity, dict) or "gpu" not in validity:
        used = config.hardware.gpu
        found.append(f"the profile names no known GPU: memory and multiprocessors are {used}'s; see --set hardware.gpu")
    elif isinstance(validity.get("model"), str) and model_file(config.model.name) is not None:
        found += model_caveats(f"profile {loaded.provenance.name}", validity["model"], config)
    return found


def nearest_caveats(nearest: NearestProfile, config: Config) -> list[str]:
    """How far an instance is from what was measured, and where it leaves that."""
    found = [] if nearest.warning is None else [nearest.warning]
    if nearest.profile is not None:
        found += outside_validity(nearest.profile.name, nearest.profile.facts.get("validity"), config)
    return found


def model_caveats(where: str, measured: str | None, config: Config) -> list[str]:
    """``measured``: the model as the measurement names it. A ``config.json`` is compared by its shapes."""
    used = config.model.name
    if measured is None:
        return []
    theirs = known_model(measured)
    if theirs is None:
        if model_file(used) is not None:
            return []
        return [f"{where} was measured with {measured}, which is not known here: taken for {used}"]
    if _shape(theirs) == _shape(used):
        return []
    return [f"{where} was measured with {measured}; predicted is {used}"]


def _shape(model: str) -> tuple[int, ...]:
    spec = find_model(model)
    return spec.num_layers, spec.hidden_size, spec.num_heads, spec.num_kv_heads, spec.num_experts


def gpu_caveats(where: str, measured: str | None, config: Config) -> list[str]:
    """``measured``: the GPU as the measurement names it."""
    used = config.hardware.gpu
    if measured is None:
        return [f"{where} does not say on which GPU it was measured; predicted is {used}"]
    theirs, ours = known_gpu(measured), known_gpu(used)
    if theirs is None:
        return [f"{where} was measured on {measured}, which is not known here; predicted is {used}"]
    return [] if theirs == ours else [f"{where} was measured on {theirs}; predicted is {ours or used}"]


def version_caveats(where: str, version: str) -> list[str]:
    """Caveats of a recorded version of vLLM."""
    if is_version(version):
        return [f"{where}: {words}" for words in said_of_version(version)]
    what = f"vLLM {version!r}, which is no version" if version else "no version of vLLM"
    return [f"{where} names {what}: taken for one of today, which schedules ahead"]


def is_far_off(error_pct: float | None) -> bool:
    """Whether no profile of the same engine was ever so far off in the time a token."""
    return error_pct is not None and abs(error_pct) > FAR_OFF_PCT


def size_caveats(tpot_error_pct: float | None, config: Config, figure: str = "TPOT", others: str = "") -> list[str]:
    """An error that no profile of the same engine has. ``others``: what is known of other profiles."""
    if tpot_error_pct is None or not is_far_off(tpot_error_pct):
        return []
    what = f"{config.model.name.rpartition('/')[2]} on {derived.gpus_in_words(config)}"
    off = f"{figure} is {tpot_error_pct:+,.0f}% off, more than any profile of the same engine was"
    return [f"{off}: was it {what}?{others}"]
