"""The loads that a client measured beside what is predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from kvsim.validate.accuracy import percent_off
from kvsim.validate.caveats import is_far_off, model_caveats, size_caveats
from kvsim.validate.clients.result import MOST_FAILED, ClientResult
from kvsim.validate.fitting_profiles import Fitting, fitting_profiles
from kvsim.validate.predict_load import FRONT_END_S, LoadPrediction, Server, predict_load
from kvsim.validate.saturation import Answered, Saturation, saturation_of


@dataclass(frozen=True)
class LoadComparison:
    """One load, measured and predicted."""

    measured: ClientResult
    predicted: LoadPrediction | None
    """``None`` where no request was answered."""
    server: Server

    @property
    def refusal(self) -> str | None:
        """Why errors would mean nothing."""
        load, sent = self.measured, f"{self.measured.traffic.requests:,} requests"
        if load.comparable:
            return None
        if not load.completed:
            return f"no comparison: none of {sent} has an answer"
        timeout_s = load.traffic.timeout_s
        cut = "" if timeout_s is None else f", cut at the client's {timeout_s:g} s"
        return (
            f"no comparison: {load.failures:,} of {sent} ({load.failed_share:.0%}) have no answer, more than "
            f"{MOST_FAILED:.0%}: the figures are the survivors'{cut}, on both sides"
        )

    @cached_property
    def error_pct(self) -> dict[str, float]:
        """Signed, of what was recorded; none where too many requests have no times."""
        load, found = self.measured, self.predicted
        if found is None or not load.comparable:
            return {}
        errors: dict[str, float] = {}
        measured = (
            ("ttft", found.ttft_s, load.ttft_s),
            ("e2e", found.e2e_s, load.e2e_s),
            ("itl", found.itl_s, load.itl_s),
        )
        for metric, ours, theirs in measured:
            shared = {name: value for name, value in theirs.items() if value > 0 and name in ours}
            errors |= {f"{metric}_{name}": percent_off(ours[name], value) for name, value in shared.items()}
        if load.tpot_mean_s and found.tpot_mean_s is not None:
            errors["tpot_mean"] = percent_off(found.tpot_mean_s, load.tpot_mean_s)
        if load.requests_per_s > 0:
            errors["requests_per_s"] = percent_off(found.requests_per_s, load.requests_per_s)
        return errors

    @property
    def warnings(self) -> list[str]:
        """What speaks against the comparison."""
        load, found = self.measured, self.predicted
        if found is None or not load.comparable:
            return []
        warnings = self._size_caveats()
        if load.failures:
            share = f"{load.failures:,} of {load.traffic.requests:,} requests"
            warnings.append(f"{share} without an answer; the figures are the others'")
        if found.gave_up:
            outlast = f"{found.gave_up:,} predicted requests outlast the client"
            warnings.append(f"{outlast}, and are left out of the figures too")
        if found.unfit:
            warnings.append(f"{found.unfit:,} predicted requests are longer than the model or the KV cache: not served")
        return warnings

    def _size_caveats(self) -> list[str]:
        """What speaks against TPOT, or against mean ITL where no TPOT was measured."""
        figure = "TPOT" if "tpot_mean" in self.error_pct else "mean ITL"
        decoding_pct = self.error_pct.get("tpot_mean", self.error_pct.get("itl_mean"))
        others = self.fitting.words() if is_far_off(decoding_pct) else ""
        return size_caveats(decoding_pct, self.server.loaded.config, figure, others)

    @cached_property
    def fitting(self) -> Fitting:
        """The other profiles of the model that come near what was measured, each of which is tried for it."""
        return fitting_profiles(self.measured, self.server)

    @cached_property
    def saturation(self) -> Saturation | None:
        """``None`` where nothing can be said: no rate was asked for, or too little was answered."""
        load, found = self.measured, self.predicted
        if found is None or not load.comparable:
            return None
        plan, traffic = self.server.plan, load.traffic
        alone_s = plan.step_time.prefill_alone_s(max(1, round(traffic.prompt_tokens)), 0) + FRONT_END_S
        return saturation_of(
            traffic,
            alone_s,
            Answered(load.completed, load.requests_per_s, load.ttft_s.get("mean"), load.e2e_s.get("mean")),
            Answered(found.completed, found.requests_per_s, found.ttft_s.get("mean"), found.e2e_s.get("mean")),
        )

    def dump(self) -> dict[str, Any]:
        """The comparison as JSON has it."""
        return {
            "measured": self.measured.dump(),
            "predicted": None if self.predicted is None else asdict(self.predicted),
            "comparable": self.measured.comparable,
            "saturated": None if self.saturation is None else asdict(self.saturation),
            "warnings": self.warnings if self.refusal is None else [self.refusal],
            "error_pct": self.error_pct,
        }


def compare_load(load: ClientResult, server: Server) -> LoadComparison:
    """Predicts it. Raises ``CapacityError`` where no request fits."""
    return LoadComparison(load, predict_load(load, server.plan) if load.completed else None, server)


def server_warnings(server: Server, loads: Sequence[ClientResult]) -> list[str]:
    """What speaks against all of the comparisons; what is the same of every load is said once, of the first."""
    found = list(server.caveats)
    for load in loads:
        found += model_caveats(load.name, load.model, server.loaded.config)
    said: dict[str, str] = {}
    for warning in found:
        said.setdefault(warning.partition(" was measured with ")[2] or warning, warning)
    return list(said.values())
