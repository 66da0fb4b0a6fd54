"""The backend of a server that is up: it cannot be restarted, so not every design can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvsim.errors import CapacityError, ConfigError
from kvsim.lab.kv.audit import check_lengths
from kvsim.lab.kv.backends.client import Client, facts_of, told_facts
from kvsim.lab.kv.deployed import CacheFacts, of_design
from kvsim.lab.kv.design import PHASES
from kvsim.lab.kv.phases import Repeat
from kvsim.lab.kv.points import FLAGS, Point
from kvsim.lab.kv.reading import NamedDesign
from kvsim.lab.kv.rows import Rows
from kvsim.measure import Server

SIMILAR = "same_worker_unique"
"""The design that asks of a server that stays up what the others ask of fresh ones."""


class RunningServer:
    """One server, the same for everything."""

    name = "url"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Client | None = None
        self._asked: NamedDesign | None = None

    @property
    def server(self) -> Mapping[str, object]:
        told = {} if self._client is None else self._client.told
        return {"url": self._server.shown, **told}

    @property
    def notes(self) -> Sequence[str]:
        found = ["all phases and repeats met one server; 'server' and 'gpu' of the design are what it was taken for"]
        if self._asked is not None and self._asked.design.sets:
            found.append("'set' of the design says nothing to a real server")
        return [*found, *(self._client.notes() if self._client is not None else ())]

    def check(self, asked: NamedDesign, points: Sequence[Point]) -> None:
        """Refuse what would take another server, then ask this one what it is."""
        refuse_fixed(asked, "url")
        labels, longest = told_facts(self._server)
        if labels.get("enable_prefix_caching") == "False" and asked.design.compare != "nothing":
            raise ConfigError(f"{self._server.shown}: has no prefix cache (enable_prefix_caching is False)")
        facts = facts_of(labels, longest, line_facts(points[0]))
        for point in points:
            check_lengths(point.repeat(0), facts, asked.where)
        self._asked, self._client = asked, Client(self._server, facts)

    def run(self, repeat: Repeat, rows: Rows) -> bool:
        """Send the phases; whatever engine they should have, they meet this one."""
        assert self._client is not None, "a design is checked before it is run"
        self._client.phases(repeat, repeat.phases, rows)
        return True


def line_facts(point: Point) -> CacheFacts:
    """What the line of a point leads to, for what a server does not say."""
    try:
        return of_design(point.design, point.line).facts
    except CapacityError:
        return CacheFacts(block_size=16, blocks=None, max_model_len=None)


def refuse_fixed(asked: NamedDesign, backend: str) -> None:
    """Raise ``ConfigError``, one line, for a design of more lines than one, or of an engine without a server."""
    design = asked.design
    flags = [name for name in design.vary if name in FLAGS]
    others = "--backend simulated or local can"
    if design.search is not None:
        raise ConfigError(
            f"{asked.where}: search: starts servers again and again, --backend {backend} cannot; {others}"
        )
    if flags:
        raise ConfigError(
            f"{asked.where}: vary.{flags[0]}: a flag of the server, which --backend {backend} leaves as it is; {others}"
        )
    refuse_in_process(asked, backend)
    if backend == "url" and design.isolation == "fresh_engine" and len(PHASES[design.compare]) > 1:
        raise ConfigError(
            f"{asked.where}: isolation: fresh_engine: --backend url cannot restart the server; {others}, or ask it the "
            f"design {SIMILAR}"
        )


def refuse_in_process(asked: NamedDesign, backend: str) -> None:
    """Raise ``ConfigError`` for a design with an engine that no server is before."""
    if asked.design.compare == "entry":
        raise ConfigError(
            f"{asked.where}: compare: entry: --backend {backend} has no engine without a server; --backend simulated "
            "has, and `kvsim modal engine` runs one on a rented GPU"
        )
