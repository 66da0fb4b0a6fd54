"""What LoRA adapters add to a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import instance_of, spec_of
from kvsim.spec import InstanceSpec
from kvsim.spec.adapters import Adapters, adapted_layers
from kvsim.steptime import Efficiencies, roofline
from kvsim.steptime.adapters import adapter_s, adapter_work, sequence_s, with_adapters
from kvsim.steptime.work import KERNEL_START_S

EIGHT = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "hardware.gpu=h100-sxm")
CONFIG = load_config(sets=EIGHT, mode="instance").config


def spec(max_loras: int = 4, rank: int = 16, model: str = "llama-3.1-8b") -> InstanceSpec:
    sets = [*EIGHT, f"model.name={model}", "engine.num_gpu_blocks_override=100"]
    return replace(
        spec_of(load_config(sets=sets, mode="instance").config), adapters=Adapters(max_loras, rank, max_loras)
    )


def efficiencies() -> Efficiencies:
    return efficiencies_of(CONFIG, spec())


def test_one_token_reads_one_adapter() -> None:
    """Of the vocabulary's A it reads a row, which is nothing beside the rest."""
    found = adapter_work(spec(), 1.0)
    values = 32 * ((3 + 1) * 4096 + 2 * 1024 + 8192 + 2 * (4096 + 14336) + 4096 + 14336) + 4096 + 4096 + 128256
    moved = 32 * (4096 + 2 * 6144 + 4096 + 2 * 4096 + 4096 + 4 * 14336 + 14336 + 2 * 4096) + 2 * 4096
    assert found.num_bytes == pytest.approx(2 * (16 * values + moved))
    assert found.calls == 2 * (4 * 32 + 2)
    assert found.flops == pytest.approx(2 * 16 * (values - 4096 - 128256))


def test_many_tokens_read_every_adapter_and_no_more() -> None:
    def read(tokens: float, max_loras: int) -> float:
        return adapter_work(spec(max_loras), tokens).num_bytes

    one, many = read(1.0, 1), read(1.0, 64)
    assert one == pytest.approx(many)
    slots = {n: read(5000.0, n) - read(5000.0, 1) for n in (2, 3)}
    assert slots[3] == pytest.approx(2 * slots[2])


def test_experts_are_read_by_adapter_and_expert() -> None:
    model = spec(4, 16, "qwen3-30b-a3b")
    layer = {one.name: one for one in adapted_layers(model.model, 1, 1)}["experts"]
    one, two = (adapter_work(model, tokens).num_bytes for tokens in (1.0, 1e9))
    assert one < two
    bare = adapter_work(replace(model, adapters=Adapters(1, 16)), 1.0).num_bytes
    assert one == pytest.approx(bare)
    assert 8 * layer.values * 48 * 16 * 2 < one < 12 * layer.values * 48 * 16 * 2


def test_they_come_on_top_of_what_was_measured() -> None:
    own, shares = spec(), efficiencies()
    bare = roofline(own, shares)
    found = with_adapters(bare, own, shares)
    tokens = np.array([1.0, 3.0, 64.0, 512.0, 8192.0])
    added = [adapter_s(own, each, shares) for each in tokens.tolist()]
    assert found.dense_s(tokens) - bare.dense_s(tokens) == pytest.approx(added, rel=0.02)
    assert found.s_s_per_seq - bare.s_s_per_seq == pytest.approx(sequence_s(own, shares))
    assert with_adapters(bare, replace(own, adapters=None), shares) is bare
    assert added[0] > 2 * (4 * 32 + 2) * KERNEL_START_S


def test_a_server_with_adapters_is_slower() -> None:
    times = [
        instance_of(load_config(sets=[*EIGHT, f"engine.enable_lora={given}"], mode="instance").config).step_time
        for given in ("false", "true")
    ]
    bare, adapted = (each.decode_alone_s(1000) for each in times)
    assert adapted - bare == pytest.approx(adapter_s(spec(1, 16), 1.0, efficiencies()), rel=0.02)
