"""LoRA adapters that are loaded while a step waits: by hand, beside an independent model, leaps against steps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case, same_both_ways
from builders import Row, with_fleet, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.config.fleet_keys import FleetEvent
from kvsim.errors import ConfigError
from kvsim.launch import read_launch_line
from kvsim.plan.deployment import load_deployment
from kvsim.plan.engine_settings import AdapterLoads
from kvsim.plan.instance import instance_of
from kvsim.plan.mode import PD, PREDICT
from kvsim.plan.plan import ROLES, Plan
from kvsim.plan.unmodelled import left_out
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.sim.engine.adapter_slots import AdapterSlots, Homes
from kvsim.sim.run import Case, run
from kvsim.sim.systems.unified import UnifiedSystem

BASE = (
    "model.name=llama-3.1-8b",
    "engine.tensor_parallel_size=1",
    "engine.enable_lora=true",
    "load.warm_caches=false",
    "cluster.simulate_racks=1",
)
HOST_S, DISK_S = 0.25, 2.0


def made(instances: int, *sets: str) -> Plan:
    size = f"cluster.simulate_gpus_per_rack={instances}"
    return PREDICT.plan(load_config(sets=[*BASE, size, *sets], mode="predict").config)


def with_loads(plan: Plan, slots: int, copies: int, used: int, host_s: float = HOST_S, disk_s: float = DISK_S) -> Plan:
    loads = AdapterLoads(slots, copies, host_s, disk_s, used)
    return plan.with_settings("colocated", max_loras=slots, adapter_loads=loads)


def served(plan: Plan, adapters: list[int], every_s: float = 10.0, prompt: int = 64) -> SystemResult:
    rows = [Row(every_s * place, prompt, 3) for place in range(len(adapters))]
    requests = replace(workload(rows), adapter=np.array(adapters, dtype=np.int32))
    return run(Case("unified", "unified", plan, requests, 1)).system


def ttft_s(result: SystemResult) -> list[float]:
    order = np.argsort(result.table["request_id"])
    return list((result.table["first_token_s"] - result.table["arrival_s"])[order])


def test_a_request_whose_adapter_is_missing_waits_for_it() -> None:
    """One slot, two copies in memory, three adapters: at the start the last two are there, the last in the slot."""
    plan = made(1)
    adapters = [2, 1, 1, 0, 1, 2]
    free = ttft_s(served(plan, adapters))
    found = served(with_loads(plan, 1, 2, 3), adapters)
    waits = [late - own for late, own in zip(ttft_s(found), free, strict=True)]
    both = HOST_S + DISK_S
    assert waits == pytest.approx([0, HOST_S, 0, both, HOST_S, both])
    use = found.adapters
    assert use is not None and (use.from_host, use.from_disk) == (2, 2)
    assert use.lost_s == pytest.approx(2 * HOST_S + 2 * both)
    parts = found.table["prefill_s"] + found.table["queue_s"]
    assert parts.tolist() == pytest.approx(free), "a load is no computing of one's own"
    assert found.table["interference_s"].sum() == pytest.approx(use.lost_s)
    assert summarise(found, slo_ttft_s=1, slo_tpot_s=1, gpus=1).adapters == use


def test_whoever_decodes_waits_too_and_the_order_stays() -> None:
    plan = made(1)
    rows = [Row(0.0, 64, 200), Row(0.5, 64, 3), Row(0.5, 64, 3)]
    requests = replace(workload(rows), adapter=np.array([0, 1, 2], dtype=np.int32))
    free, loaded = (
        run(Case("unified", "unified", one, requests, 1)).system
        for one in (plan.with_settings("colocated", max_loras=2), with_loads(plan, 2, 3, 3))
    )
    assert loaded.table["request_id"].tolist() == free.table["request_id"].tolist()
    late_s = loaded.table["finish_s"].max() - free.table["finish_s"].max()
    use = loaded.adapters
    assert use is not None and use.from_disk == 0 and use.from_host >= 2
    assert late_s == pytest.approx(use.lost_s, abs=1e-4)
    assert loaded.itl.max >= HOST_S


class Model:
    """vLLM's manager, as two caches of which whoever leaves the larger leaves the smaller."""

    def __init__(self, slots: int, copies: int) -> None:
        self.sizes, self.gpu, self.host = (slots, copies), OrderedDict[int, None](), OrderedDict[int, None]()

    def add(self, adapter: int) -> str:
        said = "there"
        if adapter not in self.host:
            if len(self.host) == self.sizes[1]:
                gone, _ = self.host.popitem(last=False)
                self.gpu.pop(gone, None)
            said = "disk"
        self.host[adapter] = None
        self.host.move_to_end(adapter)
        if adapter not in self.gpu:
            said = "host" if said == "there" else said
            if len(self.gpu) == self.sizes[0]:
                self.gpu.popitem(last=False)
        self.gpu[adapter] = None
        self.gpu.move_to_end(adapter)
        return said


@given(st.integers(1, 4), st.integers(0, 3), st.lists(st.integers(0, 7), max_size=60))
def test_slots_and_copies_are_two_caches(slots: int, more: int, steps: list[int]) -> None:
    own, model = AdapterSlots(AdapterLoads(slots, slots + more, 1.0, 100.0, 8)), Model(slots, slots + more)
    homes: Homes = {}
    own.tell(homes, 5)
    for adapter in range(8):
        model.add(adapter)
    seconds = {"there": 0.0, "host": 1.0, "disk": 101.0}
    counts = {"there": 0, "host": 0, "disk": 0}
    for adapter in steps:
        said = model.add(adapter)
        counts[said] += 1
        assert own.bring([adapter]) == seconds[said]
        assert {known for known, instances in homes.items() if 5 in instances} == set(model.gpu)
    assert (own.from_host, own.from_disk) == (counts["host"], counts["disk"])
    assert own.lost_s == counts["host"] + 101 * counts["disk"]


def test_leaps_end_as_steps_do_and_loads_of_no_time_change_nothing() -> None:
    seen = {"preemption": False, "hit": False, "fewer events": False}
    lost = 0
    for seed in range(40):
        rng = Random(seed)
        found, requests = random_case(rng)
        slots = rng.choice([1, 2, 3])
        requests = replace(requests, adapter=np.array([rng.randrange(5) for _ in range(len(requests))], dtype=np.int32))
        loads = AdapterLoads(slots, slots + rng.choice([0, 1, 5]), rng.choice([0.5, 0.3]), rng.choice([0.5, 1.7]), 5)
        own = found.with_settings(*ROLES, max_loras=slots, adapter_loads=loads)
        happened = same_both_ways(UnifiedSystem, own, requests)
        seen = {name: known or happened[name] for name, known in seen.items()}
        free = found.with_settings(*ROLES, max_loras=slots)
        at_once = own.with_settings(*ROLES, adapter_loads=replace(loads, host_s=0.0, disk_s=0.0))
        systems = [UnifiedSystem(plan, requests, 1) for plan in (free, at_once, own)]
        for system in systems:
            system.run()
        one, other, late = (system.requests.table() for system in systems)
        assert all((one[name] == other[name]).all() for name in one)
        lost += late["finish_s"].max() > one["finish_s"].max()
    assert all(seen.values()), seen
    assert lost > 20


@pytest.mark.parametrize("router", ["affinity", "least_loaded"])
def test_affinity_keeps_adapters_where_they_are(router: str) -> None:
    sets = f"routing.prefill={router}", "routing.lora_affinity=true"
    adapters = [number % 3 for number in range(60)]
    near = served(with_loads(made(3, *sets), 1, 3, 3), adapters, every_s=0.05)
    far = served(with_loads(made(3, sets[0]), 1, 3, 3), adapters, every_s=0.05)
    assert near.adapters is not None and far.adapters is not None
    assert near.adapters.from_host <= 4 < far.adapters.from_host
    placed = near.table["prefill_instance"][np.argsort(near.table["request_id"])]
    assert len({(adapter, place) for adapter, place in zip(adapters[30:], placed[30:], strict=True)}) == 3


def test_affinity_gives_way_to_load() -> None:
    plan = with_loads(made(4, "routing.lora_affinity=true"), 1, 3, 3)
    result = served(plan, [0] * 40, every_s=0.0, prompt=2000)
    assert len(set(result.table["prefill_instance"])) == 4


def test_bytes_of_an_adapter_over_the_links() -> None:
    plan = made(1, "engine.max_loras=2", "engine.max_lora_rank=64", "load.lora_adapters=5", "engine.max_cpu_loras=3")
    hidden, kv, inner = 4096, 1024, 14336
    each = (hidden + hidden) + 2 * (hidden + kv) + (hidden + hidden) + 2 * (hidden + inner) + (inner + hidden)
    expected = 2 * 64 * 32 * each
    loads = plan.colocated_settings.adapter_loads
    assert loads is not None and (loads.max_loras, loads.max_cpu_loras, loads.used) == (2, 3, 5)
    assert loads.host_s == pytest.approx(expected / 55e9)
    assert loads.disk_s == pytest.approx(expected / 3e9)
    (told,) = [text for text in left_out(plan) if text.startswith("engine.enable_lora")]
    assert "a load takes 6.1 ms from host memory and 1.1e+02 more from disk" in told


@pytest.mark.parametrize(
    "sets",
    [("load.lora_adapters=1",), ("load.lora_adapters=5", "engine.lora_loading=false"), ("engine.enable_lora=false",)],
)
def test_nothing_is_loaded_where_all_fit_or_nobody_asks(sets: tuple[str, ...]) -> None:
    plan = made(1, *sets)
    assert plan.colocated_settings.adapter_loads is None
    assert served(plan, [0, 0, 0]).adapters is None


def test_decode_instances_load_nothing() -> None:
    sizes = ("cluster.simulate_gpus_per_rack=4", "load.lora_adapters=4", "pd_separation.pd_ratio=[1,1]")
    plan = PD.plan(load_config(sets=[*BASE, *sizes], mode="pd").config)
    assert plan.prefill_settings.adapter_loads is not None and plan.decode_settings.adapter_loads is None
    rows = [Row(1.0 * place, 300, 20) for place in range(12)]
    requests = replace(workload(rows), adapter=np.array([place % 4 for place in range(12)], dtype=np.int32))
    use = run(Case("pd", "pd", plan, requests, 1)).system.adapters
    assert use is not None and use.from_disk > 0
    assert instance_of(plan.config, "decode").settings.adapter_loads is None


def test_vllms_argument_is_read() -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct --enable-lora --max-loras 2 --max-cpu-loras 7"
    config = load_deployment(read_launch_line(line), gpu="h100-sxm").config
    assert (config.engine.max_loras, config.engine.max_cpu_loras) == (2, 7)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["engine.max_loras=4", "engine.max_cpu_loras=3"], "engine.max_cpu_loras = 3: must be engine.max_loras = 4 or"),
        (["routing.lora_affinity=true", "routing.prefill=llmd"], "routing.prefill must be affinity or least_loaded"),
        (["engine.lora_disk_gb_per_s=0"], "engine.lora_disk_gb_per_s = 0"),
    ],
)
def test_bad_input_is_one_line(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(1, *sets)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_an_instance_that_is_started_again_has_the_adapters_of_a_new_one() -> None:
    """One slot and two copies for three adapters: a new server has the last one in its slot, and the last two in its
    memory. The first is brought from disk for the first request, and after the restart again for the second."""
    failing = with_fleet(with_loads(made(1), 1, 2, 3), FleetEvent(kind="fail", at_s=5.0, instance=0, duration_s=1.0))
    before, after = served(with_loads(made(1), 1, 2, 3), [0, 0]), served(failing, [0, 0])
    assert before.adapters is not None and (before.adapters.from_host, before.adapters.from_disk) == (0, 1)
    assert after.adapters is not None and (after.adapters.from_host, after.adapters.from_disk) == (0, 2)
    assert ttft_s(after)[1] - ttft_s(before)[1] == pytest.approx(HOST_S + DISK_S)
