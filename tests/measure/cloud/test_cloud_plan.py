"""What is decided before anything is paid for."""

from __future__ import annotations

import pytest

from kvsim.errors import CapacityError, ConfigError, WorkloadError
from kvsim.launch import read_launch_line
from kvsim.measure.cloud.modes import SHAPES, Mode
from kvsim.measure.cloud.plan import Ask, plan_for
from kvsim.measure.cloud.words import plan_words

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_has_a_plan_within_the_money(mode: Mode) -> None:
    plan = plan_for(Ask(mode=mode, model=LLAMA))
    assert plan.shape is SHAPES[mode]
    assert plan.bound_usd <= 5.0
    assert bool(plan.loads) == (mode is not Mode.PROBE)
    assert len(plan.cachings) == plan.shape.starts
    text = plan_words(plan)
    assert f"costs at most {plan.bound_usd:.2f} USD" in text
    assert text.count("vllm serve") == (0 if plan.shape.runs != "server" else len(plan.cachings))


def test_the_grid_of_a_sweep() -> None:
    ask = Ask(mode=Mode.SWEEP, workloads=("in=64,out=8", "in=128,out=8"), concurrency=(1, 2, 3), requests=9)
    loads = plan_for(ask).loads
    assert len({load.name for load in loads}) == len(loads) == 2 * 2 * 3
    assert [load.prefix_caching for load in loads] == [True] * 6 + [False] * 6
    assert [load.workload.max_concurrency for load in loads[:3]] == [1, 2, 3]
    assert all(len(load.workload) == 9 for load in loads)
    assert [int(load.workload.prompt_tokens[0]) for load in loads[:4]] == [64, 64, 64, 128]


def test_an_open_loop_has_its_rate() -> None:
    (load,) = plan_for(Ask(mode=Mode.CONCURRENT, rate_per_s=50.0, requests=2000)).loads
    assert load.workload.max_concurrency is None
    assert load.workload.mean_rate_per_s == pytest.approx(50.0, rel=0.1)


def test_the_line_is_one_that_vllm_takes() -> None:
    plan = plan_for(Ask(mode=Mode.SWEEP, gpus=2, model=LLAMA, revision="abc", server_args="--max-num-seqs 32"))
    on, off = (read_launch_line(" ".join(plan.command(prefix_caching=each))) for each in (True, False))
    assert on.arguments == {"tensor_parallel_size": 2, "max_num_seqs": 32, "enable_prefix_caching": True}
    assert off.arguments["enable_prefix_caching"] is False


def test_a_gpu_without_bf16_is_asked_for_half() -> None:
    assert plan_for(Ask(mode=Mode.TINY, gpu="t4")).server_args == ("--dtype", "half")
    assert plan_for(Ask(mode=Mode.TINY, gpu="t4", server_args="--dtype=float16")).server_args == ("--dtype=float16",)


def test_a_model_that_does_not_fit_is_refused_for_nothing() -> None:
    with pytest.raises(CapacityError):
        plan_for(Ask(mode=Mode.STREAMING, gpu="l4", model="meta-llama/Llama-3.1-70B-Instruct"))
    notes = plan_for(Ask(mode=Mode.STREAMING, model="nobody/nothing")).notes
    assert notes == ("kvsim does not know nobody/nothing: whether it fits is not checked",)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "several": ({"mode": Mode.STREAMING, "concurrency": (1, 2)}, "--concurrency: several go with the mode sweep alone"),
    "both": ({"mode": Mode.CONCURRENT, "concurrency": (1,), "rate_per_s": 2.0}, "exclude each other"),
    "probe": ({"mode": Mode.PROBE, "requests": 3}, "--requests does not go with the mode probe"),
    "engine": ({"mode": Mode.ENGINE, "rate_per_s": 2.0}, "--rate does not go with the mode engine"),
    "turns": ({"mode": Mode.ENGINE, "workloads": ("in=9,out=9,turns=3",)}, "in=9,out=9,turns=3: has turns"),
    "key": ({"mode": Mode.TINY, "server_args": "--api-key secret"}, "--server-args: --api-key is not for it to set"),
    "port": ({"mode": Mode.TINY, "server_args": "--port=1"}, "--server-args: --port is not for it to set"),
    "flag": ({"mode": Mode.TINY, "server_args": "--max-num-sqs 3"}, "did you mean '--max-num-seqs'"),
    "word": ({"mode": Mode.TINY, "server_args": "other/model"}, "must begin with a flag"),
    "quote": ({"mode": Mode.TINY, "server_args": "'"}, "no closing quotation"),
    "loads": ({"mode": Mode.SWEEP, "concurrency": tuple(range(1, 40))}, "156 loads; allowed: 100 or fewer"),
    "gpu": ({"mode": Mode.TINY, "gpu": "h10"}, "did you mean 'h100'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_run_is_said_in_a_line(name: str) -> None:
    asked, message = BAD[name]
    with pytest.raises(ConfigError) as raised:
        plan_for(Ask(**asked))  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_workload() -> None:
    with pytest.raises(WorkloadError, match="chatt"):
        plan_for(Ask(mode=Mode.TINY, workloads=("chatt",)))
