"""A flag without effect is told or refused, in every mode."""

from __future__ import annotations

import itertools

import pytest
import typer

from kvsim.cli.app import app
from kvsim.cli.idle import IDLE, Uses, idle
from kvsim.content import content_path

QUICK = ("--preset", "smoke", "--no-studies", "--no-plot", "--quiet", "--set", "engine.tune_colocated_budget=false")
REFUSED = {
    "--compare engine.block_size=32": "--compare needs --pd; here --policy names what is compared, and --set changes",
    "--cluster --compare engine.block_size=32": "--compare needs --pd",
    "--systems pd": "--systems needs --pd",
    "--cluster --load-of pd": "--load-of needs --pd",
    "--pd --load-of unified --workload-trace {trace}": "--load-of needs --load beside --workload-trace",
    "--pd --workload-replicas 2": "--workload-replicas needs --workload-trace FILE",
    "--requests 5": "--requests needs --workload",
    "--strict-workload-validation": "--strict-workload-validation needs --workload-trace FILE",
}
"""Flags without what they need: by ``kvsim.cli.described``."""
ALWAYS = {
    "pd", "cluster", "engine", "engine_args", "gpu", "gpus", "tp", "slo", "workload", "rate", "config",
    "calibration_profile", "preset", "assignments", "seed", "load", "stepwise", "report_json", "report_csv",
    "report_html", "export", "no_plot", "show_plot", "quiet", "studies", "no_studies",
    "replications", "cpu_budget", "jobs", "version", "client_timeout", "retries",
}  # fmt: skip
"""Parameters that every mode looks at."""


def test_every_flag_is_accounted_for() -> None:
    parameters = [parameter for parameter in typer.main.get_command(app).params if parameter.name != "help"]
    refused = {word for line in REFUSED for word in line.split() if word.startswith("--")} - {"--pd", "--cluster"}
    left = {
        parameter.name
        for parameter in parameters
        if parameter.opts[0] not in refused and not str(parameter.name).startswith("workload_")
    }
    assert left == ALWAYS | {name for name, _, _ in IDLE}


@pytest.mark.parametrize("flags", REFUSED)
def test_a_flag_without_what_it_needs_is_refused(kvsim, flags: str) -> None:
    trace = content_path("trace", "mooncake_sample.jsonl")
    code, out, err = kvsim(*flags.format(trace=trace).split())
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith(f"kvsim: error: {REFUSED[flags]}")


def test_no_flag_is_told_twice() -> None:
    truths = itertools.product((True, False), repeat=3)
    names = {name: name for name, _, _ in IDLE}
    for mode, (folder, learned, trainable) in itertools.product(("pd", "cluster", "single"), truths):
        told = [
            sentence.split(" ")[0] for sentence in idle(names, Uses(mode, (), folder, learned, learned and trainable))
        ]
        assert len(told) == len(set(told))


TRAIN = "--learned-train-mode warmup --learned-train-fraction 0.5"
UNLEARNED = ": no policy of this run is a learned one"
NO_SWEEP = "--skip-context-sweep has no effect: no study of context lengths is among those of this run"
TOLD = {
    f"--policy lru {TRAIN}": [f"{flag} has no effect{UNLEARNED}" for flag in TRAIN.split()[::2]],
    f"--cluster {TRAIN}": [f"{flag} has no effect{UNLEARNED}" for flag in TRAIN.split()[::2]],
    "--cluster --no-train": [f"--no-train has no effect{UNLEARNED}"],
    f"--policy learned --set policies.learned_model={{model}} {TRAIN}": [
        f"{flag} has no effect: policies.learned_model names the model" for flag in TRAIN.split()[::2]
    ],
    "--policy learned --no-train": [],
    "--policy lru --skip-context-sweep": [NO_SWEEP],
    "--pd --systems unified --skip-context-sweep": [NO_SWEEP],
    "--pd --out there": ["--out has no effect: nothing is written there without pictures"],
    "--policy lru --out there --report-json there/r.json": [],
}


@pytest.mark.parametrize("flags", TOLD)
def test_a_flag_without_effect_is_told(kvsim, flags: str) -> None:
    model = content_path("learned", "mooncake_conversation.txt")
    code, _, err = kvsim(*QUICK, *flags.format(model=model).split())
    assert code == 0
    assert err.splitlines() == [f"kvsim: warning: {sentence}" for sentence in TOLD[flags]]


def test_a_comparison_of_what_nobody_looks_at_says_why(kvsim) -> None:
    loud = tuple(flag for flag in QUICK if flag != "--quiet")
    small = ("--set", "studies.instances=2", "--set", "studies.max_requests=100")
    done = kvsim("--pd", *loud, *small, "--compare", "policies.eviction=arc")
    assert done.code == 0
    assert "eviction=arc: changes nothing: no tiers are in use (set pd_separation.tiers)" in " ".join(done.out.split())


def test_a_study_that_is_skipped_is_no_flag_without_effect() -> None:
    given = {"skip_context_sweep": "--skip-context-sweep"}
    for mode in ("pd", "cluster"):
        assert idle(given, Uses(mode, ("capacity", "context"), True, learned=False, trainable=False)) == ()


def test_what_a_trace_has_no_use_for_is_noted(kvsim) -> None:
    flags = {"include-failed": "every row has prompt", "dequantise": "no two", "hash-tokens-per-block=16": "the trace"}
    azure = content_path("trace", "azure_sample.csv")
    done = kvsim("trace", "stats", azure, *(f"--workload-{flag}" for flag in flags))
    for flag, why in flags.items():
        assert f"--workload-{flag.partition('=')[0]} is ignored: {why}" in done.out
    assert "is ignored" not in kvsim("trace", "stats", azure).out
    mooncake = content_path("trace", "mooncake_sample.jsonl")
    assert "is ignored" not in kvsim("trace", "stats", mooncake, "--workload-hash-tokens-per-block", 512).out
