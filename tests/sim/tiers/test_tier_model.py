"""Unified instances above tiers against a second, naive model of them: the same times to the microsecond."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from builders import Row, by_request, coefficients, plan, served, workload
from tier_model import Device, Model, Ports, Prompt

from kvsim.sim.systems.unified import UnifiedSystem

TOKEN_S = 1e-3
TOKEN_BYTES = 131_072
GB = 1e9
RATES = ("own in", "own out", "host", "pool in", "pool out", "nic", "drive in", "drive out")
TIERS = (("dram",), ("eic",), ("dram", "eic"), ("dram", "ssd"), ("eic", "ssd"), ("dram", "eic", "ssd"))


def prompts(random: np.random.Generator, instances: int) -> list[Prompt]:
    """Heads that several prompts share, of up to three chains, and tails of their own."""
    found, at_s = [], 0.0
    for number in range(int(random.integers(8, 30))):
        at_s += random.exponential(float(random.choice([0.01, 0.3])))
        head = int(random.integers(4))
        shared = ((head, 16 * (5 + 3 * head)), (10 + head, 16 * 7), (20 + head, 16 * 4))[: random.integers(1, 4)]
        pieces = (*shared, (-1 - number, int(random.integers(1, 130))))
        found.append(Prompt(number, at_s, pieces, number % instances, sum(tokens for _, tokens in pieces)))
    return found


def device(name: str, chunks: int, rates: dict[str, float], hosts: list[int]) -> Device:
    """Of a host but for the pool; ``hosts``: of each instance. Drives do one thing at a time."""

    def ports(instance: int, host: int, route: str) -> Ports:
        to = "out" if route == "read" else "in"
        if name == "dram":
            return [(("own", instance, route), rates[f"own {to}"] * GB), (("host", host, route), rates["host"] * GB)]
        if name == "eic":
            return [(("nic", instance, route), rates["nic"] * GB), (("pool", route), rates[f"pool {to}"] * GB)]
        return [(("drive", host), rates[f"drive {to}"] * GB)]

    routes = {
        route: [ports(instance, host, route) for instance, host in enumerate(hosts)] for route in ("read", "write")
    }
    held: dict[int, OrderedDict] = {host: OrderedDict() for host in ([0] if name == "eic" else hosts)}
    reached = [held[0 if name == "eic" else host] for host in hosts]
    return Device(chunks, routes, 5e-6 if name == "eic" else 1e-4, name == "ssd", reached)


@pytest.mark.parametrize("seed", range(100))
def test_a_naive_model_gives_the_same_times(seed: int) -> None:
    contention = ("fifo", "max_min")[seed % 2]
    random = np.random.default_rng(seed)
    per_host, num_hosts = ((1, 3), (3, 1), (2, 2), (2, 3), (6, 1))[random.integers(5)]
    instances, chunk = per_host * num_hosts, 16 * int(random.integers(1, 4))
    hosts = [instance // per_host for instance in range(instances)]
    rates = dict(zip(RATES, np.exp(random.uniform(np.log(0.05), np.log(2), len(RATES))).tolist(), strict=True))
    names = TIERS[random.integers(len(TIERS))]
    chunks = {"dram": int(random.integers(5, 60)), "eic": int(random.integers(5, 120)), "ssd": 10_000}
    gb = {name: (count + 0.5) * chunk * TOKEN_BYTES / GB for name, count in chunks.items()}
    asked = prompts(random, instances)

    model = Model([device(name, chunks[name], rates, hosts) for name in names], chunk, TOKEN_BYTES, TOKEN_S)
    model.promotes, model.on_arrival = bool(random.integers(2)), bool(random.integers(2))
    model.in_turn = contention == "fifo"
    model.run(asked)

    sets = (
        f"cluster.network.gpus_per_host={per_host}", "routing.prefill=round_robin", "cache.load_or_recompute=false",
        "engine.max_num_seqs=1", f"cache.chunk_tokens={chunk}", "cluster.ssd_scope=host",
        f"cache.promote_on_hit={str(model.promotes).lower()}", "cache.max_write_wait_s=1e9",
        f"cache.contention={contention}",
        f"cache.load_at={'arrival' if model.on_arrival else 'scheduling'}",
        f"hardware.dram.read_gb_per_s={rates['own out']!r}", f"hardware.dram.write_gb_per_s={rates['own in']!r}",
        f"hardware.dram.host_gb_per_s={rates['host']!r}", f"hardware.dram.capacity_gb={gb['dram']!r}",
        f"cluster.eic.read_gb_per_s={rates['pool out']!r}", f"cluster.eic.write_gb_per_s={rates['pool in']!r}",
        f"cluster.eic.capacity_per_node_gb={gb['eic']!r}", "cluster.eic.nodes_per_rack=1",
        f"hardware.ssd.read_gb_per_s={rates['drive out']!r}", f"hardware.ssd.write_gb_per_s={rates['drive in']!r}",
    )  # fmt: skip
    times, nic_bytes_per_s = coefficients(p1_s_per_token=TOKEN_S), rates["nic"] * GB
    own = plan(1, instances - 1, sets=sets, times=times, nic_bytes_per_s=nic_bytes_per_s)
    rows = [Row(prompt.arrival_s, pieces=prompt.pieces, output_tokens=1) for prompt in asked]
    table = by_request(served(UnifiedSystem, replace(own, num_instances=instances, tiers=names), workload(rows)))
    assert list(table["loaded_tokens"]) == [prompt.loaded for prompt in asked]
    assert table["first_token_s"] == pytest.approx([prompt.first_token_s for prompt in asked], abs=1e-6, rel=0)
