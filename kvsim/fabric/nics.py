"""The network between instances: one group of NICs out of and into each, first come first served."""

from __future__ import annotations


class Nics:
    """Every instance's NICs as one link out and one link in.

    A transfer occupies the sender's link out and the receiver's link in for ``bytes / bandwidth`` at once; transfers on
    a link go one after the other, in the order of ``send`` (``contention`` ``fifo``), or do not see each other
    (``none``).
    """

    def __init__(self, num_instances: int, bytes_per_s: float, latency_s: float, contention: str) -> None:
        self.bytes_per_s = bytes_per_s
        self.latency_s = latency_s
        self.out_busy_s = [0.0] * num_instances
        self.in_busy_s = [0.0] * num_instances
        self.bytes_sent = self.bytes_received = 0.0
        self._contended = contention == "fifo"
        self._out_free_s = [0.0] * num_instances
        self._in_free_s = [0.0] * num_instances

    def send(self, source: int, target: int, num_bytes: float, ready_s: float) -> tuple[float, float]:
        """Start and end of the occupation of both links; the last byte arrives ``latency_s`` after the end."""
        start_s = ready_s
        if self._contended:
            start_s = max(start_s, self._out_free_s[source], self._in_free_s[target])
        duration_s = num_bytes / self.bytes_per_s
        end_s = start_s + duration_s
        self._out_free_s[source] = self._in_free_s[target] = end_s
        self.out_busy_s[source] += duration_s
        self.in_busy_s[target] += duration_s
        self.bytes_sent += num_bytes
        return start_s, end_s
