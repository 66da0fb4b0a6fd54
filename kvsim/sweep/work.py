"""One run: from values to a row of the table."""

from __future__ import annotations

from typing import Any

from kvsim.api import simulate
from kvsim.errors import KvsimError
from kvsim.record.plain import plain
from kvsim.simulation import Simulation, summary_row
from kvsim.sweep.arguments import READING, names_file
from kvsim.sweep.files import KeptTrace
from kvsim.sweep.tasks import Task, head_of
from kvsim.workload.reading import Reading


def row_of(task: Task) -> dict[str, Any]:
    """The row, one with its error where the run fails. Raises ``KeyboardInterrupt`` where it was interrupted."""
    found: dict[str, Any] = {}
    error: str | None = None
    try:
        simulation = simulate(**arguments_of(task))
        if simulation.run.status == "incomplete":
            raise KeyboardInterrupt
        found, error = figures(simulation), _broken(simulation)
    except KvsimError as failure:
        error = str(failure)
    except MemoryError:
        error = "out of memory; fewer runs at a time need less"
    except Exception as failure:
        error = f"a defect of kvsim: {type(failure).__name__}: {failure}"
    said = None if error is None else " ".join(error.split())
    figures_: dict[str, Any] = plain(found)
    return head_of(task.run) | {"error": said} | figures_


def arguments_of(task: Task) -> dict[str, Any]:
    """What :func:`kvsim.simulate` is called with."""
    given = dict(task.arguments)
    for name, value in given.items():
        if names_file(name, value):
            given[name] = str(task.folder / value)
    reading = Reading(**{READING[name]: given.pop(name) for name in READING if name in given})
    if "trace" in given:
        given["trace"] = KeptTrace(given["trace"], reading, task.files[task.arguments["trace"]])
    if "server" in given:
        given |= {"searches_rate": False, "finds_binding": False}
        return {"what": given.pop("server"), "sets": task.sets, "detail": False, **given}
    return {"what": given.pop("mode"), "sets": task.sets, "detail": False, **given}


def figures(simulation: Simulation) -> dict[str, Any]:
    """What a row says of a run: of what was served and where, and of each system behind its name."""
    workload, cluster = simulation.workload, simulation.report.cluster
    found: dict[str, Any] = {
        "served.requests": workload.requests,
        "served.asked_requests_per_s": workload.asked_requests_per_s,
        "served.gpus": cluster.gpus,
        "served.instances": cluster.instances,
    }
    for result in simulation.results:
        for name, value in summary_row(result).items():
            if name != "system":
                found[f"{result.name}.{name}"] = value
    return found


def _broken(simulation: Simulation) -> str | None:
    """The first part that failed, or law of conservation that does not hold."""
    for result in simulation.results:
        for check in result.conservation.checks:
            if not check.ok:
                return f"a defect of kvsim: {result.name}: the law '{check.name}' is broken"
    return next((failure.sentence() for failure in simulation.failures), None)
