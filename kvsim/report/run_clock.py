"""How long a run takes, and what it holds: from before anything is imported to its report."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kvsim._compiled import engine
from kvsim._version import __version__

if TYPE_CHECKING:
    from kvsim.failures import Failure
    from kvsim.plan.mode import ModeName
    from kvsim.record.result import SystemResult
    from kvsim.report.sections import Run


@dataclass(frozen=True)
class RunClock:
    """When a run began; make one before anything else is done."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)

    def section(
        self,
        *,
        mode: ModeName,
        preset: str | None,
        seed: int,
        results: Sequence[SystemResult],
        status: str | None = None,
        others_cpu_s: float = 0.0,
        failures: Sequence[Failure] = (),
    ) -> Run:
        """The report's ``run``, as the run ends; ``others_cpu_s`` is what other processes simulated for it.

        ``status`` is ``incomplete`` when a result is, unless given.
        """
        from kvsim.report.sections import Run

        sim_cpu_s = sum(result.sim_cpu_s for result in results)
        completed = sum(result.completed for result in results)
        whole = not any(result.incomplete for result in results)
        return Run(
            version=__version__,
            engine=engine(),
            mode=mode,
            preset=preset,
            seed=seed,
            started_at=self.started_at.isoformat(timespec="seconds"),
            cpu_s=_cpu_s(others_cpu_s),
            wall_s=time.perf_counter() - self.started_s,
            peak_rss_bytes=peak_rss_bytes(),
            sim_cpu_s=sim_cpu_s,
            requests_per_cpu_s=completed / sim_cpu_s if sim_cpu_s > 0 else None,
            events=sum(result.events for result in results),
            status=status or ("complete" if whole else "incomplete"),
            failures=tuple(failure.told for failure in failures),
        )

    def cost(self, mode: str, seed: int, others_cpu_s: float) -> dict[str, object]:
        """What of ``run`` is of a command whose answer is no report of simulated systems."""
        return {
            "version": __version__,
            "engine": engine(),
            "mode": mode,
            "seed": seed,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "cpu_s": _cpu_s(others_cpu_s),
            "wall_s": time.perf_counter() - self.started_s,
            "peak_rss_bytes": peak_rss_bytes(),
        }


def _cpu_s(others_cpu_s: float) -> float:
    """CPU seconds of this process and of its children; where nobody waited for these, what they say themselves."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + max(children.ru_utime + children.ru_stime, others_cpu_s)


def peak_rss_bytes() -> int:
    """The most memory this process has held. ``ru_maxrss`` is in KiB on Linux, in bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
