"""What is done on the rented machine: servers come up, loads run, files are left in a folder. It does not know Modal.

Whatever is not done when the time is up is said, not waited for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.errors import KvsimError
from kvsim.measure.cloud.engine_run import EnginePlace, run_engine
from kvsim.measure.cloud.gpu_probe import difference, seen_gpus
from kvsim.measure.cloud.plan import SERVER_START_S, STOP_S, CloudPlan, Load
from kvsim.measure.cloud.results import SUMMARY, summary_of
from kvsim.measure.cloud.server import running

if TYPE_CHECKING:
    from kvsim.measure.result import MeasuredRun

LEAST_LOAD_S = 2.0
"""A load that would have less is not begun."""
MOST_LOG_BYTES = 2_000_000
ROWS = "rows.jsonl"
"""What a load leaves in a folder of its name; the server's counters stand beside."""
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
"""Environment variables whose values no file that is brought back has."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a plan is carried out, and how a server is started there."""

    folder: Path
    """Empty; what is brought back is left in it."""
    command: Callable[[bool], Sequence[str]]
    """What starts a server, with prefix caching or without."""
    url: str
    """Where that listens."""
    until_s: float
    """When all has to be over, by ``time.monotonic``."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: str = sys.executable
    """The interpreter that has vLLM, for its engine in a process."""

    @property
    def left_s(self) -> float:
        return self.until_s - time.monotonic()


def carry_out(plan: CloudPlan, place: Place, *, probe: bool = True) -> dict[str, Any]:
    """Do all of it, or as much as there is time for; what is in ``run.json`` is returned.

    A server or a load that fails is told of there, and what can go on does. ``probe``: whether there is a GPU to see.
    """
    began_s = time.monotonic()
    said: dict[str, Any] = {"plan": plan.dump(), "gpus": [], "warnings": [], "servers": [], "loads": []}
    if probe:
        _probe(plan, said)
    for caching in plan.cachings:
        loads = [load for load in plan.loads if load.prefix_caching == caching]
        run = _engine if plan.shape.runs == "engine" else _server
        run(plan, place, caching, loads, said)
    said["seconds"] = time.monotonic() - began_s
    said["usd"] = said["seconds"] * plan.machine.usd_per_s
    (place.folder / SUMMARY).write_text(json.dumps(said, indent=1), encoding="utf-8")
    _clean(place.folder)
    return said


def _probe(plan: CloudPlan, said: dict[str, Any]) -> None:
    gpu = plan.machine.gpu
    try:
        seen = seen_gpus()
    except KvsimError as error:
        said["warnings"].append(str(error))
        return
    said["gpus"] = [asdict(each) for each in seen]
    differs = None if gpu is None else difference(gpu, plan.machine.gpus, seen)
    if differs is not None:
        said["warnings"].append(differs)


def _server(plan: CloudPlan, place: Place, caching: bool, loads: Sequence[Load], said: dict[str, Any]) -> None:
    """One server, and the loads that are for it."""
    log = place.folder / f"server-{'cached' if caching else 'uncached'}.log"
    facts: dict[str, Any] = {"prefix_caching": caching, "log": log.name}
    said["servers"].append(facts)
    left = iter(loads)
    try:
        ready_by_s = min(time.monotonic() + SERVER_START_S, place.until_s - STOP_S)
        with running(place.command(caching), place.url, log, ready_by_s, place.environment) as ready_s:
            facts["ready_s"] = ready_s
            for load in left:
                said["loads"].append(_loaded(plan, place, load))
                if said["loads"][-1]["status"] == "interrupted":
                    break
    except KvsimError as error:
        facts["error"] = str(error)
    said["loads"] += [{"name": load.name, "status": "not run"} for load in left]


def _loaded(plan: CloudPlan, place: Place, load: Load) -> dict[str, Any]:
    from kvsim.measure import Sending, Server, measure

    limit_s = min(load.limit_s, place.left_s - STOP_S)
    if limit_s < LEAST_LOAD_S:
        return {"name": load.name, "status": "not run"}
    sending = Sending(content_seed=_content_seed(plan, load), stop_after_s=limit_s)
    try:
        run = measure(Server(place.url), load.workload, sending, words=load.words, seed=plan.seed, content=load.content)
    except KvsimError as error:
        return {"name": load.name, "status": "failed", "error": str(error)}
    return _kept(run, place, load)


def _engine(plan: CloudPlan, place: Place, caching: bool, loads: Sequence[Load], said: dict[str, Any]) -> None:
    """An engine for each load: in a process nothing else tells one load from the next."""
    log = place.folder / "engine.log"
    for load in loads:
        until_s = min(place.until_s - STOP_S, time.monotonic() + SERVER_START_S + load.limit_s)
        own = EnginePlace(place.python, place.environment, place.folder, log, until_s)
        facts: dict[str, Any] = {"prefix_caching": caching, "log": log.name}
        said["servers"].append(facts)
        try:
            run, facts["ready_s"] = run_engine(plan, load, own, _content_seed(plan, load))
        except KvsimError as error:
            said["loads"].append({"name": load.name, "status": "failed", "error": str(error)})
        else:
            said["loads"].append(_kept(run, place, load))


def _content_seed(plan: CloudPlan, load: Load) -> int:
    """One of its own, unless it is said: what another load left in the cache must not be found by this one."""
    if load.content_seed is not None:
        return load.content_seed
    return plan.seed * 1000 + plan.loads.index(load)


def _kept(run: MeasuredRun, place: Place, load: Load) -> dict[str, Any]:
    """A load's figures; its rows are left in a folder of its name."""
    from kvsim.measure.files import write_rows

    folder = place.folder / load.name
    folder.mkdir()
    write_rows(folder / ROWS, run)
    interrupted = run.incomplete and place.left_s > STOP_S and run.duration_s < load.limit_s
    return {"name": load.name, "status": "interrupted" if interrupted else "ok"} | summary_of(run)


def _clean(folder: Path) -> None:
    """Cut logs to their ends, and take out of every text what must not be seen."""
    secrets = [value for name in SECRETS if (value := os.environ.get(name, ""))]
    for path in _files(folder):
        if path.suffix == ".log" and path.stat().st_size > MOST_LOG_BYTES:
            path.write_bytes(b"(cut)\n" + path.read_bytes()[-MOST_LOG_BYTES:])
        content = path.read_bytes()
        masked = content
        for secret in secrets:
            masked = masked.replace(secret.encode(), b"***")
        if masked != content:
            path.write_bytes(masked)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
