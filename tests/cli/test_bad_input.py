"""Bad input: exit code 2, one clear line on stderr, nothing on stdout, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_ROW = "2023-11-16 18:15:46.6805900,374,44\n"
MOONCAKE = '{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2]}\n'

FILES = {
    "good.csv": AZURE + AZURE_ROW * 3,
    "empty.csv": "",
    "header.csv": AZURE,
    "columns.csv": "hour,words\n1,2\n",
    "date.csv": AZURE + "yesterday,1,1\n",
    "negative.csv": AZURE + AZURE_ROW + "2023-11-16 18:15:47,-3,1\n",
    "short.csv": AZURE + "2023-11-16 18:15:47,3\n",
    "failed.csv": AZURE + "2023-11-16 18:15:47,0,0\n",
    "broken.jsonl": MOONCAKE + "{broken\n",
    "few_ids.jsonl": MOONCAKE,
    "binary.csv": b"\xff\xfe\x00binary",
    "good.yaml": "seed: 7\n",
    "syntax.yaml": "engine:\n  block_size: [1\n",
    "key.yaml": "engine: {blok_size: 16}\n",
    "type.yaml": "engine: {block_size: sixteen}\n",
    "list.yaml": "- engine\n",
    "ratio.yaml": "pd_separation: {pd_ratio: [0, 1]}\n",
    "both.yaml": "hardware: {hbm: {read_bw_gbps: 3350, read_gb_per_s: 3350}}\n",
    "preset.yaml": "presets: {mine: {engine: {block_size: 8}}}\n",
    "section.yaml": "name: x\noverrides: {engine: {block_size: 8}}\n",
    "stray.yaml": "nmae: x\n",
    "binary.yaml": b"\xff\xfe\x00",
    "model.json": '{\n"model_type": "jamba"}\n',
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


USAGE = {
    "--pd --cluster": "exclude each other",
    "--pdd": "unknown option '--pdd'; did you mean '--pd'?",
    "--pd --report-jsn r.json": "did you mean '--report-json'?",
    "--pd --policy nosuch": "--policy: unknown policy 'nosuch'; known: arc,",
    "--pd --policy lru,lrv": "--policy: unknown policy 'lrv'; did you mean 'lru'?",
    "--client-timeout 0": "invalid value for '--client-timeout': '0'; allowed: a finite number > 0",
    "--retries -1": "invalid value for '--retries': '-1'; allowed: a whole number >= 0",
    "--pd --client-timout 3": "did you mean '--client-timeout'?",
    "study network_variance --preset smoke --set clients.timeout_s=3": "clients.timeout_s: studies ask what it is like",
    "--pd --xyzzy": "unknown option '--xyzzy'; see kvsim --help",
    "-x": "unknown option '-x'",
    "--pd=1": "'--pd'",
    "hits trace.csv": "trace.csv",
    "trase stats in/good.csv": "unknown command 'trase'; did you mean 'trace'?",
    "trace": "a command is missing; known: fetch, lint, list, stats, synth",
    "trace lnt in/good.csv": "unknown command 'lnt'; did you mean 'lint'?",
    "trace lint": "missing argument 'FILE'",
    "trace stats in/good.csv in/good.csv": "unexpected extra argument",
    "--pd trace lint in/good.csv": "--pd does not go with the command 'trace'",
    "--pd --seed": "'--seed' requires an argument",
    "--pd --no-plot --show-plot": "exclude each other",
    "--pd --no-studies --studies transfer": "exclude each other",
    "--pd --studies transfr": "did you mean 'transfer'?",
    "--pd --set studies.replications=1": "studies.replications = 1",
    "--pd --set pd_separation.transfer.contention=maxmin": "pd_separation.transfer.contention = 'maxmin'",
    "--pd --set cluster.network.rack_oversubscription=0.5": "cluster.network.rack_oversubscription = 0.5",
    "--pd --set routing.index_staleness_ms=-1": "routing.index_staleness_ms = -1",
    "--pd --set engine.scheduling_policy=sjf": "engine.scheduling_policy: unknown policy 'sjf'; known: dfs_weight,",
}

FLAGS = {
    "--seed x": "'--seed': 'x'; allowed: a whole number >= 0",
    "--seed -1": "'--seed': '-1'",
    "--seed 1.5": "'--seed': '1.5'",
    "--load 0": "'--load': '0'; allowed: a finite number > 0",
    "--load nan": "'--load': 'nan'",
    "--load inf": "'--load': 'inf'",
    "--load high": "'--load': 'high'",
    "--load-of both": "known: pd, unified",
    "--learned-train-mode wramup": "did you mean 'warmup'?",
    "--learned-train-fraction 1": "'--learned-train-fraction': '1'; allowed: a number > 0 and < 1",
    "--preset smoek": "unknown preset 'smoek'; did you mean 'smoke'?",
    "--workload-limit 5": "--workload-limit needs --workload-trace",
    "--strict-workload-validation": "--strict-workload-validation needs --workload-trace",
    "--workload-trace in/good.csv --workload-limit 0": "'--workload-limit': '0'; allowed: a whole number >= 1",
    "--workload-trace in/good.csv --workload-replicas 0": "'--workload-replicas': '0'",
    "--workload-trace in/good.csv --workload-arrival-scale 0": "'--workload-arrival-scale': '0'",
    "--workload-trace in/good.csv --workload-hash-tokens-per-block 1.5": "'1.5'; allowed: a whole number >= 1",
    "--workload-trace in/good.csv --workload-format azuer": "did you mean 'azure'?",
    "--workload-trace in/good.csv --workload-format burstgpt": "no field 'Timestamp'",
    "--workload-trace in/good.csv --workload-format splitwise": "no field 'arrival_timestamp'",
    "--workload-trace in/good.csv --workload-format bailian": "no field 'chat_id'",
    "--workload-trace in/good.csv --workload-format aiperf": "no field 'input_length'",
    "--workload-trace in/good.csv --workload-format mooncake": "in/good.csv",
    "--workload-trace in/good.csv --workload-time-unit hours": "time unit 'hours' is unknown",
}

SETTINGS = {
    "--config in/nosuch.yaml": "no such file",
    "--config in": "is a folder",
    "--config in/binary.yaml": "is not UTF-8 text",
    "--config in/syntax.yaml": "in/syntax.yaml, line",
    "--config in/key.yaml": "did you mean 'block_size'?",
    "--config in/type.yaml": "engine.block_size = 'sixteen': must be an integer",
    "--config in/list.yaml": "holds a list; a mapping of sections is wanted",
    "--config in/ratio.yaml": "pd_ratio[0] = 0: must be greater than or equal to 1",
    "--config in/both.yaml": "hardware.hbm",
    "--config in/preset.yaml": "'engine.block_size' is no scale",
    "--set engine.block_size": "is not of the form section.key=value",
    "--set engine.blok_size=16": "did you mean 'block_size'?",
    "--set engine.block_size=0": "must be greater than or equal to 1",
    "--set engine.block_size=[1": "invalid YAML",
    "--set slo.ttft_ms=.nan": "must be a finite number",
    "--set engine.tensor_parallel_size=3": "engine.tensor_parallel_size = 3",
    "--set model.name=llama-3.1-71b": "llama-3.1-70b",
    "--set hardware.gpu=h101": "h10",
    "--set engine.tensor_parallel_size=1": "tensor_parallel",
    "--set routing.prefill=afinity": "did you mean 'affinity'?",
    "--set routing.decode=capacities": "did you mean 'capacity'?",
    "--set steptime.method=fitted": "steptime.coefficients",
    "--calibration-profile h100_70b_referense": "did you mean 'h100_70b_reference'?",
    "--calibration-profile in/nosuch.yaml": "no such file",
    "--calibration-profile in/section.yaml": "engine",
    "--calibration-profile in/stray.yaml": "did you mean 'name'?",
}

TRACES = {
    "in/nosuch.csv": "no such file",
    "in": "not a file",
    "in/empty.csv": "the file is empty",
    "in/header.csv": "no rows",
    "in/columns.csv": "no column for the arrival time",
    "in/date.csv": ":2: TIMESTAMP is 'yesterday'",
    "in/negative.csv": ":3: ContextTokens is '-3'",
    "in/short.csv": ":2: 2 columns where the header has 3",
    "in/failed.csv": "no prompt or no output tokens",
    "in/broken.jsonl": ":2: not JSON",
    "in/binary.csv": "not text in UTF-8",
    "in/few_ids.jsonl --strict-workload-validation": "few-hash-ids",
    "in/goood.csv": "did you mean",
}

PATHS = {
    "--report-json nowhere/r.json": "there is no folder 'nowhere'",
    "--report-csv nowhere/r.csv": "there is no folder 'nowhere'",
    "--report-json in": "it is a folder",
    "--report-json r --report-csv r": "which is also that of --report-json",
    "--export parket=x": "did you mean 'parquet'?",
    "--export x.json": "does not say what it is to hold",
    "--export csv=nowhere/x": "there is no folder 'nowhere'",
    "--report-csv r --export csv=r": "which is also that of --report-csv",
    "--report-json r --report-html r": "which is also that of --report-json",
    "--report-html in/good.yaml": "which is there and no HTML of kvsim's",
    "--config in/good.yaml --report-json in/good.yaml": "which is the configuration",
    "--workload-trace in/good.csv --report-csv in/good.csv": "which is the trace",
    "--out in/good.csv": "--out",
    "--out in/good.csv/results": "--out",
    "--out new --report-json new/r --report-csv new/r": "which is also that of --report-json",
    f"--report-json {'x' * 300}": "cannot write",
}

VERBS = {
    "trace stats in/nosuch.csv": "no such file",
    "trace stats in/header.csv": "no rows",
    "trace stats in/good.csv --workload-format azuer": "did you mean 'azure'?",
    "trace stats in/good.csv --json nowhere/s.json": "there is no folder",
    "trace stats in/good.csv --json in/good.csv": "which is the trace",
    "trace lint in/binary.csv": "not text in UTF-8",
    "trace lint in/empty.csv": "the file is empty",
    "trace lint in/good.csv --workload-hash-tokens-per-block 0": "allowed: a whole number >= 1",
    "trace lint in/good.csv --pd": "unknown option '--pd'",
    "models qwen3-33b": "unknown model or GPU 'qwen3-33b'; did you mean 'qwen3-32b'?",
    "models xyzzy": "unknown model or GPU 'xyzzy'; without a name all are shown",
    "models in/nosuch.json": "not readable: No such file",
    "models in/model.json": "model_type 'jamba' is not modelled: some of its layers are state-space",
    "models in/model.json --json in/model.json": "which is the model",
    "models --json nowhere/m.json": "there is no folder",
    "models --jsn m.json": "did you mean '--json'?",
    "models h100 l4": "unexpected extra argument",
    "--pd models": "--pd does not go with the command 'models'",
    "serve --prot 80": "unknown flag '--prot'; did you mean '--port'?",
    "serve --port 70000": "--port 70000: must be from 0 to 65535",
    "serve -h": "'-h' is no flag of vllm serve; see kvsim serve --help",
    "serve --speed 0": "'0'; allowed: a finite number > 0",
    "serve --instances 0": "allowed: a whole number >= 1",
    "serve --uds /s": "--uds is not offered",
    "serve meta-llama/Llama-3.2-1B-Instrukt": "did you mean 'llama-3.2-1b-instruct'?",
    "serve --gpu h1000": "did you mean",
    "serve --set engine.blok_size=16": "did you mean 'block_size'?",
    "serve --max-model-len 1000000": "--max-model-len 1000000",
    "serve --responses in/nosuch.jsonl": "cannot be read: No such file",
    "serve --responses in/broken.jsonl": "line 1: 'prompt' is missing",
    "serve --tokenizer in/model.json": "not a tokenizer.json",
    "serve --enable-lora --lora-modules tuned": "must be name=path",
    "serve --host no.such.host.invalid": "--host no.such.host.invalid:",
    "serve --config in/nosuch.yaml": "cannot be read: No such file",
    "serve a b": "'b' belongs to no flag; the model is 'a'",
}

CASES = {
    **USAGE,
    **{f"--pd {flags}": words for flags, words in (FLAGS | SETTINGS | PATHS).items()},
    **{f"--pd --workload-trace {trace}": words for trace, words in TRACES.items()},
    **VERBS,
}


@pytest.mark.parametrize(("line", "words"), CASES.items(), ids=range(len(CASES)))
def test_one_line_and_nothing_left(kvsim, empty: Path, inputs: Path, line: str, words: str) -> None:
    before = {path: path.read_bytes() for path in inputs.iterdir()}
    code, out, err = kvsim(*(word.replace("in/", f"{inputs}/", 1) if word != "in" else inputs for word in line.split()))
    assert (code, out) == (2, "")
    assert err.startswith("kvsim: error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert words.replace("in/", f"{inputs}/") in err
    assert not any(sign in err for sign in ("Traceback", "pydantic", "│"))
    assert len(err) < 800
    assert list(empty.iterdir()) == []
    assert {path: path.read_bytes() for path in inputs.iterdir()} == before


def test_a_name_with_a_newline_stays_on_the_line(kvsim) -> None:
    code, _, err = kvsim("trace", "stats", "a\nb.csv")
    assert code == 2
    assert err == "kvsim: error: a\\nb.csv: no such file\n"


@pytest.mark.parametrize(
    "arguments", [["--pd", "--load", "-1"], ["--pd", "--config", "nosuch.yaml"], ["trace", "lint", "nosuch.csv"]]
)
def test_as_a_process(python_main, empty: Path, arguments: list[str]) -> None:
    code, out, err = python_main(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kvsim: error: ") and err.count("\n") == 1
    assert list(empty.iterdir()) == []


RATES = {
    "--pd --load 1e9": "--load is 1e+09, of a maximum of ",
    "--pd --load 1e-300": "--load is 1e-300, of a maximum of ",
    "--pd --set load.rho=1e9": "load.rho is 1e+09, of a maximum of ",
    "--pd --set pd_trace.qps=1e10": "pd_trace.qps: 1e+10 requests/s; ",
    "--cluster --load 1e9": "--load is 1e+09, of a maximum of ",
    "--policy lru --load 1e-300": "--load is 1e-300, of a maximum of ",
    "--policy lru --set trace.qps=1e-300": "trace.qps: 1e-300 requests/s; ",
}


@pytest.mark.parametrize("flags", RATES)
def test_a_rate_that_cannot_be_names_who_asked_for_it(kvsim, flags: str) -> None:
    quick = ("--preset", "smoke", "--no-studies", "--no-plot", "--set", "engine.tune_colocated_budget=false")
    code, out, err = kvsim(*flags.split(), *quick, "--set", "load.pilot_requests=50")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"kvsim: error: {RATES[flags]}")
    assert err.endswith("allowed: 1e-09 to 1e+09 requests/s\n")


def test_a_load_whose_requests_would_not_fit_is_named(kvsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.room.available_bytes", lambda: 2e9)
    quick = ("--preset", "smoke", "--no-studies", "--no-plot", "--set", "load.pilot_requests=50")
    code, _, err = kvsim("--policy", "lru", *quick, "--load", "1e6")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("kvsim: error: --load is 1e+06, of a maximum of ") and " requests/s would fit" in err
