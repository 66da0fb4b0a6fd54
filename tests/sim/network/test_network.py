"""Streams over shared links: fair shares, pipelines, processor sharing, conservation, cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kvsim.sim.clock import Clock
from kvsim.sim.network.jitter import Jitter
from kvsim.sim.network.max_min import fair_rates
from kvsim.sim.network.network import CONTENTION, Network
from kvsim.sim.network.stream import FirstPart, Stream
from kvsim.sim.network.topology import Topology

LINE = 10.0


def network(num: int = 4, contention: str = "max_min", hosts: list[int] | None = None, **settings: object) -> Network:
    """Instances with equal NICs, each on a host of its own, all in one rack, without latencies."""
    split = {name: settings.pop(name) for name in ("jitter", "descriptor_s") if name in settings}
    racks = settings.pop("racks", [0] * num)
    nics = settings.pop("nics", [LINE] * num)
    topology = Topology(nics, [10 * LINE] * num, hosts or list(range(num)), racks, **settings)
    return Network(Clock(), topology, contention, **split)


class Log:
    """When which stream arrived."""

    def __init__(self, found: Network) -> None:
        self.network, self.clock, self.at_s = found, found._clock, {}

    def open(self, name: object, source: int, target: int, first_bytes: float | None = None) -> Stream:
        first = None if first_bytes is None else FirstPart(first_bytes, 0, self._writes("first"))
        return self.network.open(source, target, self._writes(name), first=first)

    def _writes(self, name: object) -> Callable[[Stream], None]:
        return lambda _: self.at_s.__setitem__(name, self.clock.now)

    def send(self, name: object, source: int, target: int, num_bytes: float, time_s: float = 0.0) -> Stream:
        """A stream of one chunk at a time."""
        stream = self.open(name, source, target)
        self.clock.schedule(time_s, callback=lambda _: self.network.push(stream, num_bytes, True))
        return stream

    def run(self) -> dict:
        self.clock.run_to_stop()
        conserved(self.network)
        return self.at_s


def conserved(found: Network) -> None:
    """Everything sent has arrived, and every link carried what its streams asked for."""
    assert found.bytes_sent == pytest.approx(found.bytes_received, rel=1e-9, abs=1e-6)
    assert found.work_done == pytest.approx(found.work_asked, rel=1e-9, abs=1e-6)
    assert found.bytes_in_air == pytest.approx(0.0, abs=1e-6 * max(found.bytes_sent, 1.0))


@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_equal_flows_share_a_nic_equally(k: int) -> None:
    log = Log(network(k + 1))
    streams = [log.send(flow, 0, flow + 1, 100.0) for flow in range(k)]
    rates: list[float] = []
    log.clock.schedule(1.0, callback=lambda _: rates.extend(map(log.network.rate, streams)))
    assert list(log.run().values()) == pytest.approx([10.0 * k] * k)
    assert rates == [LINE / k] * k


def test_shares_change_as_others_come_and_go() -> None:
    log = Log(network())
    log.send("long", 0, 1, 100.0)
    log.send("short", 0, 2, 10.0, time_s=2.0)
    assert log.run() == {"short": 4.0, "long": 11.0}


def test_a_slow_receiver_leaves_the_sender_s_nic_to_others() -> None:
    log = Log(network(3, nics=[10.0, 2.0, 10.0]))
    log.send("slow", 0, 1, 20.0)
    log.send("fast", 0, 2, 80.0)
    assert log.run() == {"slow": 10.0, "fast": 10.0}


def test_the_smaller_number_of_nics_decides() -> None:
    log = Log(network(2, nics=[40.0, 20.0]))
    log.send("kv", 0, 1, 100.0)
    assert log.run() == {"kv": 5.0}


def test_nvlink_inside_a_host_leaves_the_nics_alone() -> None:
    log = Log(network(3, hosts=[0, 0, 1]))
    log.send("inside", 0, 1, 100.0)
    log.send("beyond", 0, 2, 100.0)
    assert log.run() == {"inside": 1.0, "beyond": 10.0}


def test_an_oversubscribed_uplink_is_shared_by_its_rack() -> None:
    log = Log(network(4, racks=[0, 0, 1, 1], oversubscription=2.0))
    log.send("a", 0, 2, 50.0)
    log.send("b", 1, 3, 50.0)
    log.send("inside", 2, 3, 25.0)
    assert log.run() == {"a": 10.0, "b": 10.0, "inside": 5.0}


def test_latency_comes_after_the_links() -> None:
    log = Log(network(nic_latency_s=0.5, intra_rack_latency_s=0.25))
    log.send("first", 0, 1, 100.0)
    log.send("second", 0, 1, 100.0, time_s=10.0)
    assert log.run() == {"first": 10.75, "second": 20.75}


def test_descriptors_take_time_on_the_nic() -> None:
    log = Log(network(descriptor_s=0.5))
    stream = log.open("kv", 0, 1)
    log.network.push(stream, 100.0, True, descriptors=4)
    assert log.run() == {"kv": 12.0}
    assert log.network.bytes_received == 100.0


@pytest.mark.parametrize("contention", CONTENTION)
@given(
    chunks=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 100)), min_size=1, max_size=8),
)
def test_a_pipeline_is_chunk_after_chunk(contention: str, chunks: list[tuple[float, float]]) -> None:
    """f_i = max(ready_i, f_(i-1)) + b_i / B."""
    log = Log(network(contention=contention))
    stream = log.open("kv", 0, 1)
    ready_s = list(itertools.accumulate(gap for gap, _ in chunks))
    end_s = 0.0
    for i, (at_s, (_, size)) in enumerate(zip(ready_s, chunks, strict=True)):
        last = i == len(chunks) - 1
        log.clock.schedule(at_s, callback=lambda _, b=size, done=last: log.network.push(stream, b, done))
        end_s = max(at_s, end_s) + size / LINE
    assert log.run()["kv"] == pytest.approx(end_s, rel=1e-12)
    assert stream.busy_s == pytest.approx(sum(size for _, size in chunks) / LINE, rel=1e-9)


@pytest.mark.parametrize("contention", CONTENTION)
def test_the_first_piece_is_told_when_it_arrives(contention: str) -> None:
    log = Log(network(contention=contention, nic_latency_s=0.5))
    stream = log.open("kv", 0, 1, first_bytes=30.0)
    log.network.push(stream, 20.0, False)
    log.clock.schedule(5.0, callback=lambda _: log.network.push(stream, 80.0, True))
    assert log.run() == {"first": 6.5, "kv": 13.5}


def test_the_first_piece_of_a_stream_that_comes_to_share() -> None:
    log = Log(network())
    stream = log.open("kv", 0, 1, first_bytes=30.0)
    log.network.push(stream, 100.0, True)
    log.send("other", 0, 2, 100.0, time_s=2.0)
    assert log.run() == {"first": 4.0, "kv": 18.0, "other": 20.0}


def test_nothing_to_send_arrives_at_once() -> None:
    log = Log(network(nic_latency_s=0.5))
    log.send("nothing", 0, 1, 0.0, time_s=3.0)
    assert log.run() == {"nothing": 3.0}


@pytest.mark.parametrize("when_s", [4.0, 10.0, 12.0])
def test_a_cancelled_stream_leaves_its_share_and_what_it_moved(when_s: float) -> None:
    found = network()
    log = Log(found)
    doomed = log.open("doomed", 0, 1)
    found.push(doomed, 50.0, False)
    log.send("other", 0, 2, 60.0)
    moved: list[float] = []
    log.clock.schedule(when_s, callback=lambda _: moved.append(found.cancel(doomed)))
    assert log.run() == {"other": (8.0 if when_s == 4.0 else 11.0)}
    assert moved == [pytest.approx(5.0 * min(when_s, 10.0))]


def test_uncontended_streams_do_not_see_each_other() -> None:
    log = Log(network(contention="none"))
    for flow in range(3):
        log.send(flow, 0, 1, 100.0)
    assert set(log.run().values()) == {10.0}


def test_fifo_serves_one_after_the_other_on_both_ends() -> None:
    log = Log(network(contention="fifo"))
    for flow, (source, target) in enumerate([(0, 1), (0, 2), (3, 2), (3, 1)]):
        log.send(flow, source, target, 100.0)
    assert log.run() == {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0}


def random_story(rng: Random, contention: str, checked: bool) -> Log:
    """Starts, pushes and cancels at random times over NICs, NVLink and uplinks."""
    num = rng.randint(2, 6)
    found = network(
        num,
        contention,
        hosts=[rng.randint(0, 3) for _ in range(num)],
        racks=sorted(rng.randint(0, 1) for _ in range(num)),
        nics=[rng.choice([5.0, 10.0, 20.0]) for _ in range(num)],
        oversubscription=rng.choice([1.0, 1.5, 4.0]),
        nic_latency_s=rng.choice([0.0, 0.3]),
    )
    log = Log(found)
    live: list[Stream] = []
    for flow in range(rng.randint(1, 14)):
        source, target = rng.randrange(num), rng.randrange(num)
        stream = log.open(flow, source, target)
        live.append(stream)
        at_s = rng.choice([0.0, 1.0, rng.uniform(0, 20)])
        chunks = rng.randint(1, 3)
        doomed = rng.random() < 0.15
        for chunk in range(chunks):
            last = chunk == chunks - 1 and not doomed
            size = rng.choice([10.0, 25.0, rng.uniform(0.1, 90)])
            log.clock.schedule(at_s, callback=lambda _, s=stream, b=size, e=last: found.push(s, b, e))
            at_s += rng.choice([0.0, rng.uniform(0, 8)])
        if doomed:
            log.clock.schedule(at_s, callback=lambda _, s=stream: found.cancel(s))
    if checked:
        for time_s in range(40):
            log.clock.schedule(time_s + 0.123, 4, lambda _: agrees_with_full_recomputation(found, live))
    return log


def agrees_with_full_recomputation(found: Network, streams: list[Stream]) -> None:
    active = [s for s in streams if s.active and s.end_s > found._clock.now]
    capacity = dict(enumerate(found.topology.capacity_bytes_per_s))
    expected = fair_rates([s.path for s in active], [math.inf] * len(active), capacity)
    assert [found.rate(s) for s in active] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=120, deadline=None)
@given(st.randoms(use_true_random=False))
def test_incremental_rates_equal_full_recomputation(rng: Random) -> None:
    random_story(rng, "max_min", checked=True).run()


@pytest.mark.parametrize("contention", CONTENTION)
@given(st.randoms(use_true_random=False))
def test_bytes_are_conserved(contention: str, rng: Random) -> None:
    log = random_story(rng, contention, checked=False)
    log.run()
    found = log.network
    for kind in ("nic_out", "nic_in", "nvlink_out", "nvlink_in", "rack_up", "rack_down"):
        assert contention != "max_min" or found.utilisation(kind, max(log.clock.now, 1e-9)) <= 1 + 1e-9
    out = sum(found.carried[link] for kind in ("nic_out", "nvlink_out") for link in found.topology.links(kind))
    into = sum(found.carried[link] for kind in ("nic_in", "nvlink_in") for link in found.topology.links(kind))
    assert out == pytest.approx(into, rel=1e-9) == pytest.approx(found.work_done, rel=1e-9)


@pytest.mark.parametrize("sizes", ["exponential", "hyperexponential", "equal"])
def test_processor_sharing_is_insensitive_to_sizes(sizes: str) -> None:
    """M/G/1-PS: the mean sojourn is E[S] / (1 - rho), whatever the distribution of sizes."""
    rng, num, load = np.random.default_rng(7), 30_000, 0.6
    arrival_s = np.cumsum(rng.exponential(1 / load, num))
    if sizes == "exponential":
        service_s = rng.exponential(1.0, num)
    elif sizes == "hyperexponential":
        service_s = rng.exponential(np.where(rng.random(num) < 0.1, 5.0, 5 / 9))
    else:
        service_s = np.ones(num)
    log = Log(network(2))
    for flow, (at_s, size_s) in enumerate(zip(arrival_s.tolist(), service_s.tolist(), strict=True)):
        log.send(flow, 0, 1, size_s * LINE, at_s)
    ended = log.run()
    sojourn_s = np.array([ended[flow] for flow in range(num)]) - arrival_s
    means = np.array([batch.mean() for batch in np.array_split(sojourn_s[num // 10 :], 25)])
    half_width_s = stats.t.ppf(0.995, 24) * means.std(ddof=1) / 5
    assert abs(means.mean() - 1 / (1 - load)) <= half_width_s
    assert half_width_s < 0.15 / (1 - load)


def test_jitter_lengthens_the_time_on_the_links_and_the_latency() -> None:
    jitter = Jitter(0.0, 1.0, 4.0, np.random.default_rng(1))
    log = Log(network(jitter=jitter, nic_latency_s=0.5))
    log.send("kv", 0, 1, 100.0)
    assert log.run() == {"kv": 42.0}
    assert log.network.bytes_received == 100.0


def test_jitter_that_is_off_changes_no_bit() -> None:
    one, other = network(), network(jitter=Jitter(0.0, 0.0, 1.0, np.random.default_rng(1)))
    ends = []
    for found in (one, other):
        log, rng = Log(found), Random(3)
        for flow in range(50):
            log.send(flow, rng.randrange(4), rng.randrange(4), rng.uniform(1, 99), rng.uniform(0, 50))
        ends.append(log.run())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("pairs", [100, 1000, 10_000])
def test_the_cost_of_a_transfer_does_not_grow_with_transfers_elsewhere(pairs: int) -> None:
    """On disjoint links, two at a time on each: events (one of them the push) and rates are counted, not seconds."""
    log = Log(network(2 * pairs))
    for pair in range(pairs):
        log.send((pair, 0), 2 * pair, 2 * pair + 1, 100.0)
        log.send((pair, 1), 2 * pair, 2 * pair + 1, 50.0, time_s=1.0)
    log.run()
    transfers = 2 * pairs
    assert log.network.rerated / transfers == 1.5
    assert log.clock.num_events / transfers == 3


def test_a_stream_alone_is_one_event() -> None:
    log = Log(network())
    stream = log.open("kv", 0, 1)
    for chunk in range(5):
        log.network.push(stream, 10.0, chunk == 4)
    log.run()
    assert log.clock.num_events == 1
