"""What is exported as a client's results is read as such, with the report's own figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.cli import main
from kvsim.validate.clients.read import read_results

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(("kind", "name"), [("vllm-bench", "b.json"), ("llmd", "l.yaml")])
def test_exported_results_are_read_with_the_figures_of_the_report(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--workload", "in=300,out=30", "--rate", "5", "--requests", "300", "--no-search", "--quiet")
    code = main(["predict", LINE, "--gpu", "h100", *flags, "--export", f"{kind}={name}", "--report-json", "r.json"])
    assert (code, capsys.readouterr().err) == (0, "")
    (system,) = json.loads(Path("r.json").read_text())["results"]
    (found,) = read_results(Path(name))
    assert found.ttft_s["mean"] == pytest.approx(system["ttft_ms"]["mean"] / 1e3)
    assert found.ttft_s["p99"] == pytest.approx(system["ttft_ms"]["p99"] / 1e3, rel=0.02)
    assert found.tpot_mean_s == pytest.approx(system["tpot_ms"]["mean"] / 1e3)
    assert found.e2e_s["mean"] == pytest.approx(system["e2e_ms"]["mean"] / 1e3)
    # The client counts from its first request to its last answer, the report over a window within.
    assert found.requests_per_s == pytest.approx(system["throughput"]["requests_per_s"], rel=0.05)
