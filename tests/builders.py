"""Small systems, workloads and engines for tests: one line each, everything else as little as possible."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import TypeVar

import numpy as np

from kvsim.config import load_config
from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import ROLES, Plan, make_plan
from kvsim.record.fleet import FleetUse
from kvsim.record.result import COMPONENTS, Table
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.log.conservation import request_checks
from kvsim.sim.systems.fleet_of import look_after
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime, Coefficients
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

S = TypeVar("S", UnifiedSystem, PdSystem)

KV_BYTES_PER_TOKEN = 1000.0
NIC_BYTES_PER_S = 1e6

_NO_TIME = Coefficients(
    w0_s=0.0,
    w1_s_per_token=0.0,
    p0_s=0.0,
    p1_s_per_token=0.0,
    a_s_per_kv_token=0.0,
    a_mixed_s_per_kv_token=0.0,
    straggler_s_per_token=0.0,
    straggler_min_seqs=0.0,
    b_s_per_token2=0.0,
    prefill_chunk_floor_tokens=0,
    s_s_per_seq=0.0,
    comm0_s=0.0,
    comm1_s_per_token=0.0,
    const_s=0.0,
)


def coefficients(**values: float) -> Coefficients:
    """Step-time coefficients that are all zero but for ``values``."""
    return replace(_NO_TIME, **values)


@cache
def _plan(num_prefill: int, num_decode: int, sets: tuple[str, ...]) -> Plan:
    total = num_prefill + num_decode
    base = (
        "model.name=llama-3.1-8b",
        "engine.tensor_parallel_size=1",
        "cluster.simulate_racks=1",
        f"cluster.simulate_gpus_per_rack={total}",
        f"cluster.gpus_per_rack={total}",
        f"cluster.total_gpus={total}",
        f"pd_separation.pd_ratio=[{num_prefill},{num_decode}]",
        "pd_separation.output_margin_tokens=0",
        "cluster.network.p2p_rdma_latency_us=0",
        "pd_separation.transfer.setup_us=0",
        "cluster.network.intra_rack_latency_us=0",
        "cluster.network.gpus_per_host=1",
        "load.warm_caches=false",
    )
    return make_plan(load_config(sets=base + sets).config)


def plan(
    num_prefill: int = 1,
    num_decode: int = 1,
    *,
    sets: Rows[str] = (),
    times: Coefficients | None = None,
    nic_bytes_per_s: float = NIC_BYTES_PER_S,
    **settings: object,
) -> Plan:
    """A cluster of single-GPU instances in one rack without latencies, decode reservations or warm caches.

    ``times``: by default every step takes a second. ``settings`` are those of every engine.
    """
    found = _plan(num_prefill, num_decode, tuple(sets))
    if "block_size" in settings:
        found = found.with_instances(spec=replace(found.spec, block_size_tokens=settings["block_size"]))
    step_time = AffineStepTime(times or coefficients(const_s=1.0))
    found = found.with_instances(step_time=step_time, nic_bytes_per_s=nic_bytes_per_s)
    return replace(found.with_settings(*ROLES, **settings), kv_bytes_per_token=KV_BYTES_PER_TOKEN)


def stepwise(plan: Plan) -> Plan:
    """The same with one event per step on every engine."""
    return plan.with_settings(*ROLES, stepwise=True)


@dataclass(frozen=True)
class Row:
    """One request of a hand-made workload; without ``pieces`` its ``prompt_tokens`` are its own."""

    arrival_s: float
    prompt_tokens: int = 0
    output_tokens: int = 1
    pieces: tuple[tuple[int, int], ...] = ()
    output_chain: int | None = None
    session_id: int = -1
    priority: int = 0


def workload(rows: Rows[Row]) -> Workload:
    """The rows as a workload, in order of arrival."""
    pieces = [row.pieces or ((-1 - i, row.prompt_tokens),) for i, row in enumerate(rows)]
    flat = [piece for path in pieces for piece in path]
    chains = [-1 - i if row.output_chain is None else row.output_chain for i, row in enumerate(rows)]
    return Workload(
        arrival_s=np.array([row.arrival_s for row in rows], dtype=np.float64),
        prompt_tokens=np.array([sum(tokens for _, tokens in path) for path in pieces], dtype=np.int32),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int32),
        session_id=np.array([row.session_id for row in rows], dtype=np.int64),
        output_chain=np.array(chains, dtype=np.int64),
        piece_offsets=np.cumsum([0, *map(len, pieces)]).astype(np.int64),
        piece_chain=np.array([chain for chain, _ in flat], dtype=np.int64),
        piece_tokens=np.array([tokens for _, tokens in flat], dtype=np.int32),
        priority=np.array([row.priority for row in rows], dtype=np.int32),
        info=WorkloadInfo(source="test", format="synthetic", generated_known=any(chain >= 0 for chain in chains)),
    )


def served(system: type[S], plan: Plan, requests: Workload, seed: int = 1) -> S:
    """The system after it served the whole workload, with the laws of conservation checked."""
    run = system(plan, requests, seed)
    run.run()
    check(run)
    return run


def impatient(system: S, timeout_s: float, patient: int = 0) -> S:
    """``system``, whose clients give a request up after so long, but for the first ``patient``."""
    look_after(system, Patience(timeout_s, patient))
    return system


def check(system: UnifiedSystem | PdSystem) -> None:
    """Every law of conservation holds, and every block is free again."""
    laws = [*request_checks(system.requests.table(), system.counts), *system.byte_checks()]
    failed = [law for law in laws if not law.ok]
    assert not failed, failed
    for engine in system.engines():
        engine.pool.check_integrity()
        assert engine.pool.num_free == engine.settings.num_blocks, (engine.role, engine.pool.num_free)


def by_request(system: UnifiedSystem | PdSystem) -> Table:
    """The table of completed requests in the order of their ids."""
    table = system.requests.table()
    order = np.argsort(table["request_id"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def colocated(plan: Plan) -> Plan:
    """The same with a single instance, for the unified system."""
    return replace(plan, num_instances=1)


def components(table: Table, row: int) -> dict[str, float]:
    """The parts of one request's TTFT that are not zero."""
    return {name: float(table[name][row]) for name in COMPONENTS if table[name][row]}


class Bar:
    """Progress that keeps what it is told, and may interrupt a system's run."""

    interrupts: str | None = None

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def update(self, completed: int, now_s: float) -> None:
        if self.label == type(self).interrupts:
            os.kill(os.getpid(), signal.SIGINT)


def with_fleet(plan: Plan, *events: FleetEvent, **fleet: object) -> Plan:
    """The same, to whose parts ``events`` happen; ``fleet``: other keys of its section."""
    config = plan.config
    changed = config.fleet.model_copy(update={"events": events, **fleet})
    return replace(plan, config=config.model_copy(update={"fleet": changed}))


def with_clients(plan: Plan, **clients: object) -> Plan:
    """The same with clients of less patience, keys of ``clients``."""
    config = plan.config
    return replace(plan, config=config.model_copy(update={"clients": config.clients.model_copy(update=clients)}))


def looked_after(system: type[S], plan: Plan, requests: Workload, seed: int = 1) -> tuple[S, FleetUse]:
    """The system after it served the workload while things happened to it, and what became of its fleet."""
    run = system(plan, requests, seed)
    looked = look_after(run, None)
    assert looked is not None
    run.run()
    return run, looked.use()
