"""Requests at LoRA adapters share prefixes with those at the same adapter alone."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.workload.adapted import AdaptedTraffic, adapted, adapter_of
from kvsim.workload.hits import hit_rate
from kvsim.workload.traffic import ChatTraffic
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload


def prefixed(num_requests: int = 400) -> Workload:
    return word_of("in=1000,out=10,prefix=800:1").generate(num_requests, 10.0, 3)


def test_every_session_is_at_one_adapter_evenly() -> None:
    chat = ChatTraffic(load_config(preset="smoke").config).sample(10.0, 2000, None, 1)
    found = adapter_of(chat, 5)
    assert set(found.tolist()) == set(range(5))
    for session in np.unique(chat.session_id)[:50]:
        assert len(set(found[chat.session_id == session].tolist())) == 1
    counts = np.bincount(adapter_of(prefixed(5000), 5))
    assert counts == pytest.approx(np.full(5, 1000), rel=0.12)


def test_who_goes_where_depends_on_nobody_else() -> None:
    some, more = adapter_of(prefixed(100), 7), adapter_of(prefixed(400), 7)
    assert some.tolist() == more[:100].tolist()


def test_prefixes_of_two_adapters_have_nothing_in_common() -> None:
    bare = prefixed()
    found, adapter = adapted(bare, 4), adapter_of(bare, 4)
    chains = found.piece_chain[found.piece_offsets[:-1]]
    assert len(set(chains.tolist())) == 4
    assert all(len(set(chains[adapter == each].tolist())) == 1 for each in range(4))
    assert (found.piece_chain < 0).tolist() == (bare.piece_chain < 0).tolist()
    assert found.piece_tokens.tolist() == bare.piece_tokens.tolist()
    assert found.arrival_s.tolist() == bare.arrival_s.tolist()
    assert adapted(bare, 1) is bare
    lost = 3 * 800 / bare.prompt_tokens.sum()
    assert hit_rate(bare) - hit_rate(found) == pytest.approx(lost, rel=0.05)
    assert "4 LoRA adapters" in str(found.info)


def test_traffic_at_any_rate_is_adapted_alike() -> None:
    bare = ChatTraffic(load_config(preset="smoke").config)
    traffic = AdaptedTraffic(bare, 3)
    assert (traffic.most_requests, traffic.copies_at(2.0)) == (bare.most_requests, bare.copies_at(2.0))
    for own, whole in (
        (traffic.sample(2.0, 50, None, 1), bare.sample(2.0, 50, None, 1)),
        (traffic.part(2.0, 50, None, 1), bare.part(2.0, 50, None, 1)),
        (traffic.population(), bare.population()),
    ):
        assert own.piece_chain.tolist() == adapted(whole, 3).piece_chain.tolist()
