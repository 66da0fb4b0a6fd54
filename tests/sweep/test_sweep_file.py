"""Bad sweeps: one line that says what, where, and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.errors import KvsimError
from kvsim.sweep.sweep import read_sweep

GOOD = "mode: pd\nkeys: {routing.decode: [capacity]}\n"
BAD = {
    "mode: pd\n": "keys is missing",
    "mode: pd\nkeys: {}\n": "keys is empty: there is nothing to sweep",
    "mode: pd\nkeys: {tp: []}\n": "keys.tp is empty: there is nothing to sweep",
    "mode: pd\nkeys: {tp: 4}\n": "keys.tp holds a number; a list of values or {low: A, high: B} is wanted",
    "mode: pd\nkeys: {tp: [1, 2, 1]}\n": "keys.tp has 1 twice",
    "mode: pd\nkeys: {routing.decod: [capacity]}\n": "unknown key 'routing.decod'; did you mean 'decode'?",
    "mode: pd\nkeys: {preste: [smoke]}\n": "unknown key 'preste'; did you mean 'preset'?",
    "mode: pd\nkeys: {zzz: [1]}\n": "unknown key 'zzz'; a dotted key of config.yaml is wanted",
    "mode: pd\nkeys: {engine.max_num_seqs: [8, -1]}\n": "engine.max_num_seqs = -1: must be greater than or equal to 1",
    "mode: pd\nkeys: {seed: [1, 2]}\n": "every replication has a seed of its own",
    "mode: pd\nkeys: {tp: [0]}\n": "tp = 0: must be a whole number >= 1",
    "mode: pd\nkeys: {rate: [fast]}\n": "rate = 'fast': must be a finite number > 0",
    "mode: pd\nkeys: {gpu: [h1000]}\n": "gpu = 'h1000':",
    "mode: pd\nkeys: {workload: [shargpt]}\n": "did you mean 'sharegpt'?",
    "mode: pd\nkeys: {systems: [[pd], [pdd]]}\n": "systems = ['pdd']: did you mean 'pd'?",
    "mode: pdd\nkeys: {tp: [1]}\n": "mode = 'pdd': did you mean 'pd'?",
    "keys: {tp: [1]}\n": "mode and server are both missing",
    "mode: pd\nserver: vllm serve Qwen/Qwen3-32B\nkeys: {rate: [1]}\n": "mode and server exclude each other",
    "server: vllm serve Qwen/Qwen3-32B\nkeys: {gpus: [8]}\n": "gpus is of the modes; a server has none",
    "mode: pd\nkeys: {instances: [8]}\n": "instances is of a server; a mode takes gpus",
    "server: vllm serve\nkeys: {rate: [1]}\n": "server = 'vllm serve':",
    "mode: pd\ntp: 4\nkeys: {tp: [1]}\n": "'tp' stands in keys and beside them",
    "mode: pd\nset: {slo.ttft_ms: 1}\nkeys: {slo.ttft_ms: [1]}\n": "'slo.ttft_ms' stands in keys and beside them",
    "mode: pd\nset: {slo.ttftms: 1}\nkeys: {tp: [1]}\n": "did you mean 'ttft_ms'?",
    "mode: pd\nworkload: chat\nkeys: {trace: [a.csv]}\n": "workload and trace exclude each other",
    "mode: pd\nkeys: {trace: [nosuch.csv]}\n": "trace: {folder}/nosuch.csv: no such file or directory",
    "mode: pd\nkeys: {tp: [1]}\nconfig: nosuch.yaml\n": "config: {folder}/nosuch.yaml: no such file",
    "mode: pd\nworkload_limit: 5\nkeys: {tp: [1]}\n": "workload_limit needs a trace",
    "mode: pd\nkeys: {tp: [1]}\nreplication: 2\n": "unknown key 'replication'; did you mean 'replications'?",
    "mode: pd\nkeys: {tp: [1]}\nreplications: 0\n": "replications = 0: must be greater than or equal to 1",
    "mode: pd\nkeys: {tp: [1]}\nsampling: sobol\n": "sampling = 'sobol'",
    "mode: pd\nkeys: {tp: [1]}\nsampling: lhs\n": "samples is missing",
    "mode: pd\nkeys: {tp: [1]}\nsamples: 5\n": "a grid has all points",
    "mode: pd\nkeys: {rate: {low: 1, high: 2}}\n": "keys.rate is a range: a grid needs a list",
    "mode: pd\nkeys: {rate: {low: 2, high: 1}}\nsampling: lhs\nsamples: 2\n": "low = 2 must be below high = 1",
    "mode: pd\nkeys: {rate: {low: 0, high: 1, log: true}}\n": "low = 0 must be above 0 with log: true",
    "mode: pd\nkeys: {rate: {low: 1, hgih: 2}}\n": "keys.rate: high is missing",
    "mode: pd\nkeys: {tp: [!!binary aGk=]}\n": "has a value that JSON has not",
    "mode: pd\nkeys: {rate: [4, 4.0]}\n": "keys.rate has 4.0 twice",
    "mode: pd\nkeys: {slo: {ttft_ms: [1, 2]}}\n": "keys.slo holds a mapping; keys are dotted: slo.ttft_ms",
    "mode: pd\npreset: smokee\nkeys: {tp: [1]}\n": "unknown preset 'smokee'; did you mean 'smoke'?",
    "mode: pd\nkeys: {preset: [smoke, ful]}\n": "unknown preset 'ful'; known: dev, ",
    "mode: pd\nrequests: 40\nkeys: {tp: [1]}\n": "requests needs a workload",
    "mode: pd\ntrace: a.csv\nkeys: {concurrency: [1]}\n": "concurrency needs a workload",
    "mode: pd\nload: 1\nkeys: {rate: [1]}\n": "rate excludes concurrency and load; give one",
    "mode: pd\ngpu: h100\nkeys: {hardware.gpu: [a100-80gb-sxm]}\n": "gpu and 'hardware.gpu' say the same; give one",
    "mode: pd\nset: {engine: {tensor_parallel_size: 2}}\nkeys: {tp: [1]}\n": "tp and 'engine.tensor_parallel_size' say",
    "mode: single\nkeys: {policy: [lru, lrux]}\n": "unknown policy 'lrux'; did you mean 'lru'?",
    "mode: single\nsystems: [pd]\nkeys: {rate: [1]}\n": "systems is not of the mode single",
    "keys: {mode: [pd, single]}\npolicy: lru\n": "policy is not of the mode pd",
    "mode: pd\ntrace: a.csv\nworkload_format: azur\nkeys: {rate: [1]}\n": "did you mean 'azure'?",
    "mode: pd\nkeys: {1: [1]}\n": "keys[1].[key] = 1: must be text",
    "mode: pd\nkeys: {load: [.nan]}\n": "load = nan: must be a finite number > 0",
    "mode: pd\nkeys: {slo.ttft_ms: [.inf]}\n": "slo.ttft_ms = inf",
    "- a\n": "holds a list; a mapping of sections is wanted",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_sweeps_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(KvsimError) as refused:
        read_sweep(tmp_path / "s.yaml")
    message = str(refused.value)
    assert BAD[text].replace("{folder}", str(tmp_path)) in message and "\n" not in message


def test_a_good_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    assert read_sweep(tmp_path / "s.yaml").keys == {"routing.decode": ("capacity",)}


def test_a_preset_of_a_file_of_its_own_is_known(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("presets: {tiny: {experiments: {num_requests: 30}}}\n")
    (tmp_path / "s.yaml").write_text("mode: pd\nconfig: c.yaml\npreset: tiny\nkeys: {tp: [1]}\n")
    assert read_sweep(tmp_path / "s.yaml").fixed["preset"] == "tiny"
