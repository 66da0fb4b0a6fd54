"""The worked example of CONTRIBUTING.md: it runs as it stands there, alone and in a full simulation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kvsim.cli import main
from kvsim.policy.eviction import Access, make_eviction

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example as a module, from which commands are run."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine_clock.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_hand_passes_over_who_was_asked_for(mine: Path) -> None:
    clock, access = make_eviction("mine_clock:Clock", 3), Access()
    assert [clock.admit(key, access) for key in (1, 2, 3)] == [-1, -1, -1]
    clock.hit(1, access)
    assert clock.admit(4, access) == 2
    assert clock.admit(5, access) == 3
    assert sorted(key for key in range(6) if key in clock) == [1, 4, 5]


def test_it_runs_alone_and_in_a_full_simulation(mine: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [
        {"timestamp": i, "input_length": 1024, "output_length": 8, "hash_ids": [i % 3, 10 + i % 5]} for i in range(40)
    ]
    (mine / "trace.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    hits = ["hits", "trace.jsonl", "--eviction", "lru,mine_clock:Clock", "--capacity-blocks", "7", "--json", "out.json"]
    assert main(hits) == 0
    ratios = json.loads((mine / "out.json").read_text(encoding="utf-8"))
    assert 0 < ratios["mine_clock:Clock"]["7"] < 1
    quick = ["--preset", "smoke", "--no-studies", "--no-plot", "--quiet", "--report-json", "report.json"]
    assert main([*quick, "--policy", "baseline,mine_clock:Clock"]) == 0
    report = json.loads((mine / "report.json").read_text(encoding="utf-8"))
    assert [result["name"] for result in report["results"]] == ["baseline", "mine_clock:Clock"]
    assert all(result["conservation"]["ok"] for result in report["results"])
    capsys.readouterr()
