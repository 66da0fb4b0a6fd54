"""What a router keeps of the requests that it has sent, as routers in front of servers do."""

from __future__ import annotations

from kvsim.workload.request import Request


class InFlight:
    """By instance: requests that are not answered yet, prompts that are not computed, and their tokens."""

    def __init__(self, num_instances: int) -> None:
        self.requests = [0] * num_instances
        self.waiting = [0] * num_instances
        """Prompts that are not whole yet, queued or under way."""
        self.waiting_tokens = [0.0] * num_instances
        """Tokens of those that the router knew of no cache for."""
        self.held_tokens = [0] * num_instances
        """Prompt tokens of all requests that are not answered."""
        self.announced_tokens = 0.0
        """Tokens of the prompt that the router has just sent that no cache of that instance has."""
        self._to_compute: dict[int, float] = {}
        self.serving = list(range(num_instances))
        """Instances that are in service; all of them where none is."""

    def serve_with(self, serving: list[int]) -> None:
        """Only these are in service from now on; where there are none, who is chosen does not matter."""
        self.serving = serving or list(range(len(self.requests)))

    def begun(self, request: Request, instance: int) -> None:
        """The request is sent there."""
        self.requests[instance] += 1
        self.waiting[instance] += 1
        self.held_tokens[instance] += request.prompt_tokens
        self.waiting_tokens[instance] += self.announced_tokens
        self._to_compute[request.request_id] = self.announced_tokens

    def computed(self, request: Request, instance: int) -> None:
        """The request's prompt is whole; told again, that changes nothing."""
        tokens = self._to_compute.pop(request.request_id, -1.0)
        if tokens >= 0:
            self.waiting[instance] -= 1
            self.waiting_tokens[instance] -= tokens

    def ended(self, request: Request, instance: int) -> None:
        """The request has left the instance, answered or given up."""
        self.computed(request, instance)
        self.requests[instance] -= 1
        self.held_tokens[instance] -= request.prompt_tokens
