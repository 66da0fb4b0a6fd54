"""Handing a load to vLLM's engine in a process, and reading its answer; a program of this test stands for that."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from kvsim.measure.cloud.body import Place, carry_out
from kvsim.measure.cloud.modes import Mode
from kvsim.measure.cloud.plan import Ask, plan_for
from kvsim.validate.clients.read import read_results

ANSWERS = """
import json, pathlib, sys
_, asked, answered = sys.argv[1:]
given = json.loads(pathlib.Path(asked).read_text())
pathlib.Path("{kept}").write_text(json.dumps(given))
rows = [dict(sent_s=0.001 * i, first_token_s=0.1 + 0.001 * i, finish_s=0.1 + 0.001 * i + 0.01 * (tokens - 1),
             prompt_tokens=len(ids), output_tokens=tokens, cached_tokens=32 * (i > 0))
        for i, (ids, tokens) in enumerate(given["prompts"])]
pathlib.Path(answered).write_text(json.dumps(dict(ready_s=7.5, duration_s=1.0, rows=rows)))
"""


def program(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


def ran(tmp_path: Path, text: str, **changed: object) -> tuple[dict[str, object], Path]:
    asked = {"mode": Mode.ENGINE, "workloads": ("in=64,out=8,prefix=32:1",), "concurrency": (3,), "requests": 6}
    out = tmp_path / "out"
    out.mkdir()
    place = Place(folder=out, command=lambda caching: [], url="", until_s=time.monotonic() + 60,
                  python=program(tmp_path, text))  # fmt: skip
    return carry_out(plan_for(Ask(**asked | changed)), place, probe=False), out  # type: ignore[arg-type]


def test_a_load_is_handed_over_whole_and_read_back(tmp_path: Path) -> None:
    kept = tmp_path / "given.json"
    said, out = ran(tmp_path, ANSWERS.replace("{kept}", str(kept)))
    given = json.loads(kept.read_text())
    assert given["arguments"][-2:] == ["--max-num-seqs", "3"]
    prompts = [ids for ids, _ in given["prompts"]]
    assert [len(ids) for ids in prompts] == [64] * 6
    assert len({tuple(ids[:32]) for ids in prompts}) == 1
    assert len({ids[32] for ids in prompts}) == 6
    (load,) = said["loads"]  # type: ignore[misc]
    assert (load["status"], load["answered"]) == ("ok", 6)
    assert load["ttft_mean_ms"] == pytest.approx(100.0)
    assert load["tpot_mean_ms"] == pytest.approx(10.0)
    (found,) = read_results(out / load["name"])
    assert (found.completed, found.e2e_s["mean"]) == (6, pytest.approx(0.17))
    assert sorted(path.name for path in out.iterdir()) == ["cached-w1-users3", "engine.log", "run.json"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("print('no such device'); raise SystemExit(4)", "the engine ended with 4: no such device"),
        ("print('done')", "the engine left no answer: done"),
    ],
)
def test_an_engine_that_fails_is_said(tmp_path: Path, text: str, message: str) -> None:
    said, out = ran(tmp_path, text)
    (load,) = said["loads"]  # type: ignore[misc]
    assert (load["status"], load["error"]) == ("failed", message)
    assert not (out / "asked.json").exists()
