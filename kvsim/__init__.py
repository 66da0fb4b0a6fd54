"""kvsim: a discrete-event simulator of LLM-serving clusters and their KV caches.

How long requests wait for their first token and for each further one, how many a cluster serves within limits on both,
and what its caches save of that: prefill and decode on the same instances or apart, under any eviction policy, with
memory below the GPUs or without.

    import kvsim

    report = kvsim.simulate("pd", preset="smoke", load=0.7)
    print(report.conclusion)
    for system in report.results:
        print(system.name, system.ttft_ms.p99, system.goodput.requests_per_s)

Read these three files first: ``kvsim/sim/run.py``, what a simulation is; ``kvsim/sim/engine/scheduler.py``, who runs in
the next step; ``kvsim/modes/experiment.py``, what a mode runs and asks. ``docs/glossary.md`` has the words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsim._compiled import prefer_fresh
from kvsim._version import __version__

if TYPE_CHECKING:
    from kvsim.api import (
        Config,
        ModelsSimulation,
        Report,
        Simulation,
        Workload,
        load_config,
        load_workload,
        simulate,
        simulate_models,
    )

__all__ = [
    "Config",
    "ModelsSimulation",
    "Report",
    "Simulation",
    "Workload",
    "__version__",
    "load_config",
    "load_workload",
    "simulate",
    "simulate_models",
]

prefer_fresh()


def __getattr__(name: str) -> object:
    """What the package offers is imported when it is asked for: the command's help needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kvsim import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
