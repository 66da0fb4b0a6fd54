"""Which shipped profiles would have fitted a load that another one missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kvsim.errors import KvsimError
from kvsim.plan.measured_profiles import MeasuredProfile, measured_profiles
from kvsim.validate.accuracy import percent_off
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import Traffic
from kvsim.validate.predict_load import Server, load_server, predict_traffic

NEAR_PCT = 15.0
"""How far off the time a token may be for a profile to be suggested."""
_SHOWN = 3
_REQUESTS, _MOST_REQUESTS, _ROUNDS = 500, 2_000, 4
"""How much of a load is tried: a few times those in flight tell the time a token."""


@dataclass(frozen=True)
class Fitting:
    """Profiles of the load's model and weights beside the one that was taken."""

    tried: int
    near: tuple[tuple[str, float], ...]
    """Name and error of the time a token in percent, signed, of those within ``NEAR_PCT``, the nearest first."""

    def words(self) -> str:
        """To stand behind a question; empty where there was nothing to try."""
        if not self.tried:
            return ""
        if not self.near:
            others = "the one other profile" if self.tried == 1 else f"none of the {self.tried} other profiles"
            verb = "is not" if self.tried == 1 else "is"
            return f" {others[0].upper()}{others[1:]} of this model {verb} within {NEAR_PCT:.0f}%"
        named = " and ".join(f"profile {name}: {pct:+.0f}%" for name, pct in self.near[:_SHOWN])
        return f" Nearest is {named}" if len(self.near) == 1 else f" Nearest are {named}"


def fitting_profiles(load: ClientResult, server: Server) -> Fitting:
    """Profiles whose predicted TPOT, or mean ITL where no TPOT was measured, comes near the measured one."""
    measured_s = load.tpot_mean_s or load.itl_s.get("mean")
    others = list(_others(server)) if measured_s else []
    found: list[tuple[str, float]] = []
    for profile in others:
        predicted_s = _time_a_token_s(load, server, profile)
        if measured_s and predicted_s is not None:
            found.append((profile.name, percent_off(predicted_s, measured_s)))
    near = sorted((one for one in found if abs(one[1]) <= NEAR_PCT), key=lambda one: abs(one[1]))
    return Fitting(len(others), tuple(near))


def _others(server: Server) -> Iterator[MeasuredProfile]:
    """Profiles of the same model and data types on another GPU or degree."""
    for profile in measured_profiles():
        differs = profile.differences(server.plan.spec)
        if differs and not {"model", "weight type", "KV type", "KV size"} & set(differs):
            yield profile


def _time_a_token_s(load: ClientResult, server: Server, profile: MeasuredProfile) -> float | None:
    """``None`` where the load cannot be served so."""
    model, asked = server.loaded.config.model.name, server.asked
    try:
        other = load_server(Path(profile.name), model, profile.tensor_parallel, asked.vllm_version, list(asked.sets))
        found = predict_traffic(_cut(load.traffic), other.plan, load.name)
    except KvsimError:
        return None
    return found.tpot_mean_s if load.tpot_mean_s else found.itl_s.get("mean")


def _cut(traffic: Traffic) -> Traffic:
    requests = min(max(_REQUESTS, _ROUNDS * (traffic.max_in_flight or 0)), _MOST_REQUESTS)
    if traffic.requests <= requests:
        return traffic
    rows = traffic.rows
    if rows is not None:
        sent_s = None if rows.sent_s is None else rows.sent_s[:requests]
        rows = replace(
            rows,
            prompt_tokens=rows.prompt_tokens[:requests],
            output_tokens=rows.output_tokens[:requests],
            sent_s=sent_s,
        )
    return replace(traffic, requests=requests, rows=rows)
