"""How the step times of a run are known, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.config import LoadedConfig, load_config
from kvsim.config.overlay import outside_validity
from kvsim.plan.instance import Instance
from kvsim.plan.nearest_profile import NearestProfile
from kvsim.plan.plan import Plan
from kvsim.report.sections import Calibration

STEPS = ("decode", "prefill", "mixed")
LEVELS = ("measured", "scaled", "roofline")
"""How step times can be known, the best first."""


def calibration_of(loaded: LoadedConfig, plan: Plan) -> Calibration:
    """The section of a run of ``loaded`` on ``plan``."""
    nearest = plan.colocated.nearest
    return _configured(loaded) if nearest is None else _chosen(loaded, plan, nearest)


def _chosen(loaded: LoadedConfig, plan: Plan, nearest: NearestProfile) -> Calibration:
    """The section where kvsim chose the step times itself."""
    overlay = loaded.provenance
    facts = {} if nearest.profile is None else nearest.profile.facts
    notes = list(overlay.notes)
    if overlay.name is not None:
        notes.append(f"profile {overlay.name} has no step times: those are of the nearest measured instance")
    return Calibration(
        profile=nearest.name,
        method=loaded.config.steptime.method,
        sources=facts.get("sources"),
        validity=facts.get("validity"),
        readiness=_readiness_of_all(plan, nearest),
        warnings=(*overlay.warnings, *_warnings(loaded, plan)),
        description=_text(facts.get("description")),
        provenance=facts.get("provenance"),
        fit_error=facts.get("fit_error"),
        notes=tuple(notes),
        level=max((one.level for one in (nearest, *_other_kinds(plan).values())), key=LEVELS.index),
    )


def _other_kinds(plan: Plan) -> dict[str, NearestProfile]:
    """Step times of instances of another kind than the first of unified ones, by what they are called."""
    roles = {"prefill": plan.prefill, "decode": plan.decode} if plan.num_prefill else {}
    found = {name: one.nearest for name, one in roles.items() if one.spec.gpu != plan.spec.gpu}
    found |= {f"unified {own.spec.gpus_in_words}": own.colocated.nearest for own in plan.by_kind()[1:]}
    return {name: nearest for name, nearest in found.items() if nearest is not None}


def _readiness_of_all(plan: Plan, nearest: NearestProfile) -> str:
    others = _other_kinds(plan)
    if not others:
        return _readiness(nearest)
    said = {_readiness(nearest): f"unified {plan.spec.gpus_in_words}" if plan.pools else "unified"}
    for name, other in others.items():
        words = _readiness(other)
        said[words] = f"{said[words]} and {name}" if words in said else name
    return "; ".join(f"{names}: {words}" for words, names in said.items())


def _readiness(nearest: NearestProfile) -> str:
    if nearest.profile is None:
        return "uncalibrated: roofline, no measured instance is like it"
    name, error = nearest.profile.name, error_words(nearest.profile.facts.get("fit_error"))
    if nearest.level == "measured":
        return f"profile {name}: {error or 'its error is not known'}"
    return f"scaled from profile {name}: this instance was not measured"


def error_words(fit_error: object) -> str | None:
    """A profile's ``fit_error`` in a sentence; ``None`` where it holds no figures."""
    if not isinstance(fit_error, dict):
        return None
    found = [(kind, fit_error.get(f"{kind}_steps_mape_pct")) for kind in STEPS]
    known = [f"{kind} {value:.1f}%" for kind, value in found if isinstance(value, int | float)]
    return f"fitted to measured kernels, steps off by: {', '.join(known)}" if known else "fitted to measurements"


def _warnings(loaded: LoadedConfig, plan: Plan) -> Iterator[str]:
    """What is to be said of each kind of instance, once."""
    said: list[NearestProfile] = []
    for role, instance in _instances(plan):
        nearest = instance.nearest
        if nearest is None or nearest in said:
            continue
        said.append(nearest)
        if nearest.warning is not None:
            yield nearest.warning if len(said) == 1 else f"{role}: {nearest.warning}"
        if nearest.profile is not None:
            yield from outside_validity(nearest.profile.name, nearest.profile.facts.get("validity"), loaded.config)


def _instances(plan: Plan) -> list[tuple[str, Instance]]:
    own = [("unified", one.colocated) for one in plan.by_kind()]
    return [*own, ("prefill", plan.prefill), ("decode", plan.decode)]


def _configured(loaded: LoadedConfig) -> Calibration:
    """The section where the configuration gives the step times."""
    profile = loaded.provenance
    warnings, readiness = list(profile.warnings), _configured_readiness(loaded)
    if profile.name is None:
        warnings.append(f"{readiness}; set times against measurements before trusting them")
    return Calibration(
        profile=profile.name,
        method=loaded.config.steptime.method,
        sources=profile.sources,
        validity=profile.validity,
        readiness=readiness,
        warnings=tuple(warnings),
        description=profile.description,
        provenance=profile.provenance,
        fit_error=profile.fit_error,
        notes=profile.notes,
        level="configured" if profile.name is not None or loaded.config.steptime.method != "roofline" else "roofline",
    )


def _configured_readiness(loaded: LoadedConfig) -> str:
    profile, config = loaded.provenance, loaded.config
    if profile.name is not None:
        error = error_words(profile.fit_error)
        return f"profile {profile.name}: {error or 'fitted to no run, its error is not known'}"
    if config.steptime.method == "fitted":
        return "uncalibrated: fitted coefficients of unknown origin"
    shipped = load_config().config
    steptime = shipped.steptime.model_copy(update={"method": config.steptime.method})
    same = (config.steptime, config.pd_separation.compute) == (steptime, shipped.pd_separation.compute)
    return f"uncalibrated: roofline with {'default' if same else 'configured'} efficiencies"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
