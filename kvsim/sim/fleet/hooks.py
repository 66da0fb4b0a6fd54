"""What a system asks of whoever looks after its instances and its clients, and what it tells."""

from __future__ import annotations

from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.sequence import RequestState
from kvsim.workload.request import Request


class FleetHooks:
    """Asked at each arrival, and told of each end."""

    def takes(self, state: RequestState) -> bool:
        """Whether a request may be sent to an instance now; else it is held until one can take it."""
        raise NotImplementedError

    def strands(self, state: RequestState) -> bool:
        """Whether the instance that the router has chosen does not answer, of which the router knows nothing yet: the
        request stays there, until it does."""
        raise NotImplementedError

    def answers(self, role: Role, instance: int) -> bool:
        """Whether an instance is there at all."""
        raise NotImplementedError

    def came(self, state: RequestState) -> None:
        """A request has come, and was sent or held."""
        raise NotImplementedError

    def dropped(self, state: RequestState) -> bool:
        """Forget a request that is on no engine, wherever it waits; ``False``: it waits nowhere."""
        raise NotImplementedError

    def over(self, request: Request) -> None:
        """A request has its answer, or will have none."""
        raise NotImplementedError

    def left(self) -> None:
        """Something has left an instance."""
        raise NotImplementedError
