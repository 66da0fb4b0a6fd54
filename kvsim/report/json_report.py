"""The JSON report: its sections, their keys and their order."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kvsim
from kvsim._compiled import engine
from kvsim.report.atomic import replacing

if TYPE_CHECKING:
    from kvsim.record.result import SystemResult

SECTION_KEYS: dict[str, tuple[str, ...]] = {
    "calibration": ("profile", "method", "sources", "validity", "readiness", "warnings"),
    "workload": (
        "source",
        "format",
        "sha256",
        "requests",
        "span_s",
        "prompt_tokens",
        "output_tokens",
        "infinite_cache_hit_rate",
        "lint",
        "notes",
    ),
    "cluster": ("gpus", "instances", "racks", "prefill_instances", "decode_instances", "balanced_pd_ratio"),
}
"""Keys a section must have, in their order; further ones follow in the order given."""


@dataclass(frozen=True)
class RunClock:
    """When a run began; make one before anything else is done."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)

    def section(
        self,
        *,
        mode: str,
        preset: str | None,
        seed: int,
        results: Sequence[SystemResult],
        status: str | None = None,
        others_cpu_s: float = 0.0,
    ) -> dict[str, Any]:
        """The report's ``run``: the only section that differs between two runs of one seed.

        ``engine`` is ``compiled`` or ``pure``. ``cpu_s`` is of the whole process, its finished children and those that
        simulated for it (``others_cpu_s``); ``sim_cpu_s`` of simulating the results alone. ``status`` is ``incomplete``
        when a result is, unless given.
        """
        sim_cpu_s = sum(result.sim_cpu_s for result in results)
        completed = sum(result.completed for result in results)
        whole = not any(result.incomplete for result in results)
        return {
            "version": kvsim.__version__,
            "engine": engine(),
            "mode": mode,
            "preset": preset,
            "seed": seed,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "cpu_s": _cpu_s(others_cpu_s),
            "wall_s": time.perf_counter() - self.started_s,
            "peak_rss_bytes": peak_rss_bytes(),
            "sim_cpu_s": sim_cpu_s,
            "requests_per_cpu_s": completed / sim_cpu_s if sim_cpu_s > 0 else None,
            "events": sum(result.events for result in results),
            "status": status or ("complete" if whole else "incomplete"),
        }


def _cpu_s(others_cpu_s: float) -> float:
    """CPU seconds of this process and of its children; where nobody waited for these, what they say themselves."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + max(children.ru_utime + children.ru_stime, others_cpu_s)


def peak_rss_bytes() -> int:
    """The most memory this process has held. ``ru_maxrss`` is in KiB on Linux, in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def build_report(
    *,
    run: Mapping[str, Any],
    config: Mapping[str, Any],
    calibration: Mapping[str, Any],
    workload: Mapping[str, Any],
    cluster: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    studies: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report as plain JSON values, ``results`` being those of :func:`kvsim.record.summary.summarise`.

    ``balanced_pd_ratio`` has the form of ``pd_ratio``, ``[prefill, decode]``; ``lint`` and ``notes`` are lists of
    sentences. Where load was asked for, ``workload`` also has ``load``: ``{rho, of, requests_per_s,
    max_requests_per_s}``. Raises ``KeyError`` when a section lacks a key of ``SECTION_KEYS``.
    """
    from kvsim.record.summary import plain_mapping

    given = {"calibration": calibration, "workload": workload, "cluster": cluster}
    report: dict[str, Any] = {"run": run, "config": config}
    report |= {name: _ordered(name, section) for name, section in given.items()}
    report["results"] = list(results)
    if studies is not None:
        report["studies"] = studies
    return plain_mapping(report)


def _ordered(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in SECTION_KEYS[name]} | dict(section)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report`` to ``path``, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())
