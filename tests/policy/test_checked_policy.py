"""Classes of a user's own that are wrong: one line says what, whoever runs the cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvsim.errors import ConfigError
from kvsim.policy.admission import AdmissionSettings, make_admission
from kvsim.policy.eviction import EVICTIONS, NOBODY, Access, make_eviction
from kvsim.policy.prefetch import PrefetchSettings, make_prefetch
from kvsim.sim.tiers.policy_tier import PolicyTier

MODULE = """
import numpy as np
from kvsim.policy.admission import Admission
from kvsim.policy.eviction import NOBODY, Eviction
from kvsim.policy.eviction.fifo import Fifo
from kvsim.policy.eviction.lru import Lru
from kvsim.policy.prefetch import Prefetch

class Part(Eviction):
    def __contains__(self, key): return False
    def __len__(self): return 0
    def admit(self, key, access): return NOBODY

class Good(Fifo):
    def admit(self, key, access): return np.int64(super().admit(key, access))

class Slim(Lru):  # LRU's own fast replay knows nothing of this
    def hit(self, key, access): pass

class OwnVictim(Fifo):
    def admit(self, key, access): return key if len(self) >= self.capacity_blocks else super().admit(key, access)

class InInit(Fifo):
    def __init__(self, capacity_blocks): pass

class InHit(Fifo):
    def hit(self, key, access): raise ValueError("two\\nlines")

class InAdmit(Fifo):
    def admit(self, key, access): return {}[0]

class Leaves(Fifo):
    def admit(self, key, access): raise SystemExit(0)

class NoLen(Fifo):
    def __len__(self): return "many"

class GivesNone(Fifo):
    def admit(self, key, access): super().admit(key, access)

class GivesTrue(Fifo):
    def admit(self, key, access): return super().admit(key, access) >= 0

class Stranger(Fifo):
    def admit(self, key, access): return super().admit(key, access) and 12345

class Stays(Fifo):
    def admit(self, key, access): return NOBODY

class Full(Fifo):
    def __init__(self, capacity_blocks, seed=0): super().__init__(10 * capacity_blocks, seed)

class Silent(Fifo):
    def admit(self, key, access):
        super().admit(key, access)
        return NOBODY

class Anything(Fifo):
    def __contains__(self, key): return True

class HitsOut(Fifo):
    def hit(self, key, access): self.discard(key)

class Keeps(Fifo):
    def discard(self, key): pass

class AdmitsNone(Admission):
    def admits(self, key, access): pass

class AdmitsBadly(Admission):
    def admits(self, key, access): return 1 / 0

class AdmitsNumpy(Admission):
    def admits(self, key, access): return np.bool_(True)

class AfterNone(Prefetch):
    def after(self, path_keys, access): pass

class AfterRaises(Prefetch):
    def after(self, path_keys, access):
        yield 1
        raise KeyError(path_keys[0])

class AfterText(Prefetch):
    def after(self, path_keys, access): return ["a"]

class AfterGood(Prefetch):
    def after(self, path_keys, access): return np.array(path_keys)
"""
KEYS = [1, 2, 3, 1, 4, 4, 5, 1]
ADMISSION, PREFETCH = AdmissionSettings(2, 6, 10.0), PrefetchSettings(100, 3)
WRONG = {
    "InInit": "__init__ raised TypeError: ",
    "InHit": "hit raised ValueError: two lines",
    "InAdmit": "admit raised KeyError: 0",
    "Leaves": "admit raised SystemExit: 0",
    "NoLen": "__len__ raised TypeError: ",
    "GivesNone": "admit returned None; allowed: the key evicted, or NOBODY",
    "GivesTrue": "admit returned False; allowed: the key evicted, or NOBODY",
    "Stranger": "admit returned 12345, which was not resident",
    "Stays": "__contains__ says that key 1 is not in it; it came and admit returned it for nobody",
    "Full": "4 keys after admit; allowed: its capacity of 3",
    "Silent": "3 keys after admit; 4 came and did not leave as admit's victims",
    "Anything": "__contains__ says that key 1 is in it; it never came or has left",
    "HitsOut": "2 keys after hit; 3 came",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_wrong_rules.py").write_text(MODULE)
    (tmp_path / "own_leaving_rules.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_wrong_rules", None)


def refused(raised: pytest.ExceptionInfo[ConfigError], kind: str, name: str, words: str) -> None:
    message = str(raised.value)
    assert message.startswith(f"{kind} 'own_wrong_rules:{name}': ") and "\n" not in message
    assert words in message, message


@pytest.mark.parametrize(("name", "words"), WRONG.items())
def test_wrong_on_a_trace_and_in_a_tier(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_eviction(f"own_wrong_rules:{name}", 3).replay(KEYS)
    refused(raised, "eviction", name, words)
    access = Access()
    with pytest.raises(ConfigError) as raised:
        tier = PolicyTier("dram", make_eviction(f"own_wrong_rules:{name}", 3))
        for place in range(5):
            tier.store([(0, place, place + 1)], access)
            tier.use([(0, place, place + 1)], access)
    assert str(raised.value).startswith(f"eviction 'own_wrong_rules:{name}': ")


def test_a_key_that_stays() -> None:
    policy = make_eviction("own_wrong_rules:Keeps", 3)
    policy.admit(1, Access())
    with pytest.raises(ConfigError) as raised:
        policy.discard(1)
    refused(raised, "eviction", "Keeps", "1 keys after discard; 0 came")


def test_half_a_class_and_a_module_that_leaves() -> None:
    with pytest.raises(ConfigError) as raised:
        EVICTIONS.find("own_wrong_rules:Part")
    refused(raised, "eviction", "Part", "methods are missing: discard, hit")
    with pytest.raises(ConfigError, match="cannot import own_leaving_rules: SystemExit: 0"):
        EVICTIONS.find("own_leaving_rules:Mine")


def test_right_ones() -> None:
    fifo = make_eviction("fifo", 3).replay(KEYS)
    good = make_eviction("own_wrong_rules:Good", 3)
    assert (good.replay(KEYS), len(good), type(good).__name__) == (fifo, 3, "Good")
    assert type(good.admit(77, Access())) is int
    assert make_eviction("own_wrong_rules:Slim", 3).replay(KEYS) == fifo != make_eviction("lru", 3).replay(KEYS)
    picky = make_eviction("own_wrong_rules:OwnVictim", 1)
    assert (picky.admit(1, Access()), picky.admit(2, Access()), 2 in picky, 1 in picky) == (NOBODY, 2, False, True)
    with pytest.raises(ConfigError, match="a capacity of 0 blocks; allowed: 1 or more"):
        make_eviction("own_wrong_rules:Good", 0)


def test_admission() -> None:
    for name, words in (
        ("AdmitsNone", "admits returned None; allowed: True, False"),
        ("AdmitsBadly", "admits raised ZeroDivisionError: division by zero"),
    ):
        with pytest.raises(ConfigError) as raised:
            make_admission(f"own_wrong_rules:{name}", ADMISSION).admits(1, Access())
        refused(raised, "admission", name, words)
    gate = make_admission("own_wrong_rules:AdmitsNumpy", ADMISSION)
    assert gate.admits(1, Access()) is True and gate.expired(1, Access()) is False


def test_prefetch() -> None:
    for name, words in (
        ("AfterNone", "after returned None; allowed: a sequence of keys"),
        ("AfterRaises", "after raised KeyError: 5"),
        ("AfterText", "after named a str; allowed: keys, which are whole numbers >= 0"),
    ):
        with pytest.raises(ConfigError) as raised:
            make_prefetch(f"own_wrong_rules:{name}", PREFETCH).after([5, 6], Access())
        refused(raised, "prefetch", name, words)
    assert make_prefetch("own_wrong_rules:AfterGood", PREFETCH).after([5, 6], Access()) == [5, 6]


def test_one_line_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from kvsim.cli import main
    from kvsim.content import content_path

    sample = str(content_path("trace", "mooncake_sample.jsonl"))
    assert main(["hits", sample, "--eviction", "own_wrong_rules:InAdmit", "--capacity-blocks", "3"]) == 2
    assert capsys.readouterr().err == "kvsim: error: eviction 'own_wrong_rules:InAdmit': admit raised KeyError: 0\n"
