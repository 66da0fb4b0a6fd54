"""The backend that simulates: engines as the plan of the server's line has them, and a client before them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from kvsim.errors import CapacityError
from kvsim.lab.backend import SIMULATED
from kvsim.lab.kv.audit import expected_of, facts_at
from kvsim.lab.kv.deployed import Deployed, of_design
from kvsim.lab.kv.design import Design
from kvsim.lab.kv.phases import IN_PROCESS, Phase, Repeat
from kvsim.lab.kv.points import Point
from kvsim.lab.kv.reading import NamedDesign
from kvsim.lab.kv.rows import Rows, Seen, ServerSide
from kvsim.sim.gc_pause import gc_paused
from kvsim.sim.online import OnlineServing, OnlineState, RequestFacts
from kvsim.units import MILLI
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload


class SimulatedServers:
    """A simulated server for each engine of a repeat."""

    name = SIMULATED

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], Deployed] = {}
        self._server: dict[str, object] = {}

    @property
    def server(self) -> Mapping[str, object]:
        return self._server

    @property
    def notes(self) -> Sequence[str]:
        front_end_ms = self._server.get("front_end_ms", 0.0)
        return (
            f"simulated; a request spends {front_end_ms:g} ms outside the engine, {IN_PROCESS} none "
            "(kvsim.validate.front_end)",
            "simulated repeats differ only in what is drawn: arrivals, and lengths where a family's vary",
        )

    def check(self, asked: NamedDesign, points: Sequence[Point]) -> None:
        """Every point has to be a server, even where it does not start."""
        self._server = {"line": " ".join(asked.design.server.split()), "gpu": asked.design.gpu}
        for point in points:
            try:
                facts = facts_at(asked, point)
            except CapacityError:
                continue
            found = self._deployed(point.design, point.line, caching=True)
            self._server.setdefault("block_size", facts.block_size)
            self._server.setdefault("max_model_len", facts.max_model_len)
            self._server.setdefault("front_end_ms", found.front_end_s / MILLI)

    def run(self, repeat: Repeat, rows: Rows) -> bool:
        """Simulate the phases, engine by engine."""
        try:
            facts = self._deployed(repeat.design, repeat.line, caching=True).facts
            servers = [self._deployed(repeat.design, repeat.line, caching=each[0].caching) for each in repeat.engines]
        except CapacityError as error:
            rows.add_unstarted(repeat, repeat.phases, str(error))
            return False
        hits = expected_of(repeat, facts)
        for phases, server in zip(repeat.engines, servers, strict=True):
            client = _Client(server, repeat.design.seed)
            with gc_paused():
                for phase in phases:
                    seen, counted = client.phase(phase)
                    rows.add(repeat, phase, seen, hits[phase.name], counted)
        return True

    def _deployed(self, design: Design, line: str, *, caching: bool) -> Deployed:
        key = line, caching
        if key not in self._known:
            self._known[key] = of_design(design, line, caching=caching)
        return self._known[key]


class _Client:
    """One server, and who sends it requests and times the answers."""

    def __init__(self, server: Deployed, seed: int) -> None:
        self._server, self._told = server, _Told()
        self._serving = OnlineServing(server.plan, "unified", seed, self._told)
        self._sent = 0

    def phase(self, phase: Phase) -> tuple[list[Seen], ServerSide]:
        """Warm up, then serve what counts; the engine is idle before and after either."""
        front_end_s = 0.0 if phase.in_process else self._server.front_end_s
        if phase.warm_up is not None:
            self._serve(phase.warm_up, front_end_s)
        before = self._serving.state()
        seen, usage = self._serve(phase.counted, front_end_s)
        return seen, self._counted(before, self._serving.state(), usage, caching=phase.caching)

    def _serve(self, workload: Workload, front_end_s: float) -> tuple[list[Seen], float]:
        """Serve all of it; as clients saw it, and the largest share of the KV cache that requests held."""
        serving, told = self._serving, self._told
        began_s = serving.now_s
        requests = [self._own(request) for request in workload]
        limit = workload.max_concurrency
        for request in requests[:limit]:
            serving.send(request, at_s=began_s + request.arrival_s + front_end_s)
        waiting, usage = deque(requests[limit:] if limit is not None else ()), 0.0
        while (next_s := serving.next_event_s) < math.inf:
            serving.advance(next_s)
            usage = max(usage, serving.state().kv_usage)
            for _ in range(told.take_ended()):
                if waiting:
                    serving.send(waiting.popleft(), at_s=next_s + front_end_s)
        assert serving.state().in_flight == 0, "a phase ends with its last answer"
        return [self._seen(request, front_end_s) for request in requests], usage

    def _own(self, request: Request) -> Request:
        """With a number that no other of this server has."""
        number = self._sent
        self._sent += 1
        return request._replace(request_id=number, output_chain=-1 - number)

    def _seen(self, request: Request, front_end_s: float) -> Seen:
        facts = self._told.facts.pop(request.request_id, None)
        if facts is None:
            return Seen(
                sent_s=self._serving.now_s,
                first_token_s=None,
                finish_s=None,
                prompt_tokens=request.prompt_tokens,
                output_tokens=0,
                cached_tokens=None,
                status="refused",
            )
        return Seen(
            sent_s=facts.arrival_s - front_end_s,
            first_token_s=facts.first_token_s,
            finish_s=facts.finish_s,
            prompt_tokens=facts.prompt_tokens,
            output_tokens=facts.output_tokens,
            cached_tokens=facts.cached_tokens,
            queue_s=facts.queue_s,
        )

    def _counted(self, before: OnlineState, after: OnlineState, usage: float, *, caching: bool) -> ServerSide:
        return ServerSide(
            counters="direct",
            # vLLM counts no look-up where it has no cache.
            prefix_queries=float(after.prefix_query_tokens - before.prefix_query_tokens) if caching else 0.0,
            prefix_hits=float(after.prefix_hit_tokens - before.prefix_hit_tokens),
            preemptions=after.preemptions - before.preemptions,
            kv_tokens=self._server.facts.kv_tokens,
            kv_usage_max=usage,
        )


class _Told:
    """Who an engine tells of its requests."""

    def __init__(self) -> None:
        self.facts: dict[int, RequestFacts] = {}
        self._ended = 0

    def take_ended(self) -> int:
        """Requests that have ended since this was asked last."""
        ended, self._ended = self._ended, 0
        return ended

    def tokens(self, request_id: int, count: int, time_s: float) -> None:
        """When single tokens come is in the facts, as far as rows tell it."""

    def finished(self, request_id: int, facts: RequestFacts) -> None:
        self.facts[request_id] = facts
        self._ended += 1

    def refused(self, request_id: int) -> None:
        self._ended += 1
