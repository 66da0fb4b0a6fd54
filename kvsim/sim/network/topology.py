"""The links that a transfer between two instances runs over, and what they carry."""

from __future__ import annotations

from collections.abc import Sequence

KINDS = ("nic_out", "nic_in", "nvlink_out", "nvlink_in", "rack_up", "rack_down")


class Topology:
    """Links of a cluster: NICs of every instance, NVLink or PCIe inside a host, uplinks of oversubscribed racks.

    An instance's link is all its GPUs' NICs together, so that a pair of instances moves KV over the smaller number of
    the two. ``oversubscription`` is the bandwidth of a rack's NICs over that of its uplink; at 1 the network between
    racks is no limit, and no such link exists. Bandwidths are per direction, in bytes/s.
    """

    def __init__(
        self,
        nic_bytes_per_s: Sequence[float],
        nvlink_bytes_per_s: Sequence[float],
        host_of: Sequence[int],
        rack_of: Sequence[int],
        *,
        oversubscription: float = 1.0,
        nic_latency_s: float = 0.0,
        nvlink_latency_s: float = 0.0,
        intra_rack_latency_s: float = 0.0,
        cross_rack_latency_s: float = 0.0,
    ) -> None:
        """One entry per instance in each sequence."""
        self.num_instances = num = len(nic_bytes_per_s)
        self._host_of, self._rack_of = list(host_of), list(rack_of)
        self._nvlink_latency_s = nvlink_latency_s
        self._same_rack_s = nic_latency_s + intra_rack_latency_s
        self._other_rack_s = nic_latency_s + cross_rack_latency_s
        self.capacity_bytes_per_s: list[float] = [float(rate) for rate in nic_bytes_per_s] * 2
        self.capacity_bytes_per_s += [float(rate) for rate in nvlink_bytes_per_s] * 2
        self._first_rack_link = -1
        self._num_racks = max(self._rack_of, default=-1) + 1
        if oversubscription > 1 and num:
            self._first_rack_link = len(self.capacity_bytes_per_s)
            totals = [0.0] * self._num_racks
            for rack, rate in zip(self._rack_of, nic_bytes_per_s, strict=True):
                totals[rack] += rate
            self.capacity_bytes_per_s += [total / oversubscription for total in totals] * 2

    @property
    def num_links(self) -> int:
        return len(self.capacity_bytes_per_s)

    def path(self, source: int, target: int) -> tuple[int, ...]:
        """The links from one instance to another."""
        num = self.num_instances
        if self._host_of[source] == self._host_of[target]:
            return 2 * num + source, 3 * num + target
        up, down = self._rack_of[source], self._rack_of[target]
        if self._first_rack_link < 0 or up == down:
            return source, num + target
        first = self._first_rack_link
        return source, first + up, first + self._num_racks + down, num + target

    def latency_s(self, source: int, target: int) -> float:
        """Seconds from when a byte leaves the links to its arrival."""
        if self._host_of[source] == self._host_of[target]:
            return self._nvlink_latency_s
        return self._same_rack_s if self._rack_of[source] == self._rack_of[target] else self._other_rack_s

    def links(self, kind: str) -> range:
        """All links of one of ``KINDS``: those of instances in their order, those of racks in theirs."""
        place = KINDS.index(kind)
        if place < 4:
            return range(place * self.num_instances, (place + 1) * self.num_instances)
        if self._first_rack_link < 0:
            return range(0)
        start = self._first_rack_link + (place - 4) * self._num_racks
        return range(start, start + self._num_racks)
