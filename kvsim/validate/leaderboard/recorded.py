"""A folder of a leaderboard: what was served and how, what was measured, and what other simulators said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import MOST_S, Fields
from kvsim.units import MILLI
from kvsim.validate.clients.traffic import SharedPrompts, Traffic
from kvsim.validate.files import read_json, read_yaml

FILES = ("workload.yaml", "engine.yaml", "measured.json", "peers.json")
ALL, FIRST_300 = "all", "first_300"
"""Windows that are no stage: the whole run, and its first requests, which hold the engine's warm-up."""
METRICS = ("ttft_mean", "ttft_p90", "e2e_mean", "e2e_p90", "itl_mean")
"""Milliseconds each. What is compared; p99s repeat too badly."""
SATURATED_TTFT_MS = 2_000.0
"""A stage whose measured mean TTFT is above this queued for its whole length."""

Figures = Mapping[str, float]
"""Milliseconds by name: those of ``METRICS`` that are known, and further percentiles."""


@dataclass(frozen=True)
class RecordedRun:
    """One run: an engine that served one stage after the other."""

    name: str
    engine: Fields
    stages: tuple[Traffic, ...]
    measured: Mapping[str, Figures]
    """By window."""
    peers: Mapping[str, Mapping[str, Figures]]
    """By simulator and window."""
    broken: str | None = None
    """Why nothing of it could be read."""

    @property
    def windows(self) -> list[str]:
        """Windows that are predicted: stages, and all of them together."""
        return [*(stage_name(place) for place in range(len(self.stages))), ALL]

    def saturated(self, window: str) -> bool:
        """Whether requests queued throughout it, or throughout one of the stages that it is made of."""
        names = [name for name in self.measured if name not in (ALL, FIRST_300)] if window == ALL else [window]
        return any(self.measured.get(name, {}).get("ttft_mean", 0.0) > SATURATED_TTFT_MS for name in names)


def stage_name(place: int) -> str:
    """As windows are called."""
    return f"stage_{place}"


def read_leaderboard(folder: Path) -> list[RecordedRun]:
    """The runs in the folders of ``folder``, by name, broken ones too. Raises ``ConfigError`` where there is none."""
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise ConfigError(f"{folder}: not readable: {error.strerror}") from None
    found = [path for path in inside if all((path / name).is_file() for name in FILES)]
    if not found:
        raise ConfigError(f"{folder}: no folder in it has {', '.join(FILES)}")
    return [_read(path) for path in found]


def _read(folder: Path) -> RecordedRun:
    try:
        return read_run(folder)
    except ConfigError as error:
        words = str(error) if str(error).startswith(folder.name) else f"{folder.name}/{error}"
        return RecordedRun(folder.name, Fields(folder.name, {}), (), {}, {}, words)


def read_run(folder: Path) -> RecordedRun:
    """One folder's. Raises ``ConfigError``: folder, file, key, what is allowed."""
    workload, engine, measured, peers = (
        Fields(f"{folder.name}/{name}", read_json(folder / name) if name.endswith("json") else read_yaml(folder / name))
        for name in FILES
    )
    windows = measured.get("windows")
    if not isinstance(windows, dict):
        raise measured.error("windows", "must be a mapping of windows")
    if not isinstance(peers.values, dict):
        raise ConfigError(f"{peers.file}: must be a mapping of simulators, which may be empty")
    stages = _stages(workload)
    known = {*(stage_name(place) for place in range(len(stages))), ALL, FIRST_300}
    if strange := [name for name in windows if name not in known]:
        raise measured.error(f"windows.{strange[0]}", f"is no window of {len(stages)} stages, nor all or first_300")
    return RecordedRun(
        folder.name,
        engine,
        stages,
        {name: _measured(measured.within(f"windows.{name}")) for name in windows},
        {simulator: _windows(peers.within(simulator)) for simulator in peers.values},
    )


def _stages(workload: Fields) -> tuple[Traffic, ...]:
    stages = workload.get("stages")
    if not isinstance(stages, list) or not stages:
        raise workload.error("stages", "must be a list of stages")
    return tuple(
        _stage(workload, Fields(f"{workload.file}: stage {place}", stage), sent_before=place > 0)
        for place, stage in enumerate(stages)
    )


def _stage(workload: Fields, stage: Fields, *, sent_before: bool) -> Traffic:
    prompts = workload.within("prompts")
    rate = stage.number("rate_per_s", least=1e-6)
    requests = stage.maybe_count("requests") or round(rate * stage.number("duration_s", MOST_S))
    mean_tokens, head_tokens = prompts.number("tokens_as_encoded.mean", least=1), prompts.count("system_prompt_tokens")
    if head_tokens > mean_tokens:
        raise prompts.error("system_prompt_tokens", f"must be at most the mean prompt of {mean_tokens:g} tokens")
    shared = SharedPrompts(prompts.whole("groups"), prompts.whole("prompts_per_group"), head_tokens, sent_before)
    return Traffic(
        requests=requests,
        rate_per_s=rate,
        prompt_tokens=mean_tokens,
        output_tokens=workload.number("output_tokens", least=1),
        scaled=True,
        timeout_s=workload.maybe("request_timeout_s"),
        max_in_flight=_in_flight(workload),
        shared=shared,
    )


def _in_flight(workload: Fields) -> int | None:
    most = workload.maybe_count("max_in_flight")
    if most == 0:
        raise workload.error("max_in_flight", "must be at least 1; absent: without limit")
    return most


def _measured(window: Fields) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in ("ttft", "e2e", "itl"):
        values = window.get(f"{metric}_ms") or {}
        for name in values:
            value = window.within(f"{metric}_ms").maybe(name, MOST_S / MILLI)
            if value is not None:
                found[f"{metric}_{name}"] = value
    return found


def _windows(simulator: Fields) -> dict[str, dict[str, float]]:
    windows: dict[str, Any] = simulator.values if isinstance(simulator.values, dict) else {}
    return {
        window: {name: simulator.within(window).number(name, MOST_S / MILLI) for name in figures}
        for window, figures in windows.items()
    }
