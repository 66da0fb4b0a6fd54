"""The app at Modal, with Modal's own package, against a stand-in for its service."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("modal", reason="pip install 'kvsim[modal]'")
import modal
from control_plane import WAITS, ControlPlane, serving

from kvsim.errors import ConfigError
from kvsim.measure import modal_app
from kvsim.measure.cloud.modes import Mode
from kvsim.measure.cloud.plan import Ask, CloudPlan, plan_for
from kvsim.measure.cloud.remote import STARTED

Carried = Callable[..., tuple[dict[str, bytes], list[str]]]


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[Carried]:
    """``run_on_modal`` against a stand-in; what came back, and what was told."""
    monkeypatch.setattr(modal_app, "POLL_S", 0.05)
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-of-a-test")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-of-a-test")

    def run(plane: ControlPlane, plan: CloudPlan) -> tuple[dict[str, bytes], list[str]]:
        told: list[str] = []
        with serving(plane) as url:
            monkeypatch.setenv("MODAL_SERVER_URL", url)
            monkeypatch.setattr(modal.client._Client, "_client_from_env", None)
            return modal_app.run_on_modal(plan, told.append), told

    yield run


def tiny(**changed: Any) -> CloudPlan:
    return plan_for(Ask(**{"mode": Mode.TINY, "model": "Qwen/Qwen3-0.6B"} | changed))


def test_functions_have_the_limits_that_were_paid_for(carried_out: Carried) -> None:
    plan = tiny(gpu="h100", gpus=2, max_usd=6.0, region="us-east", hf_secret="my-token")
    plane = ControlPlane({"prepare": lambda model, revision: "abc123", "run": lambda plan, marks: {}})
    carried_out(plane, plan)
    run, prepare = plane.functions["run"], plane.functions["prepare"]
    for function, machine, work_s in ((run, plan.machine, plan.limits.run_s), (prepare, modal_app.PREPARES, 1800)):
        assert (function.timeout_secs, function.startup_timeout_secs, function.task_idle_timeout_secs) == (
            work_s,
            300,
            2,
        )
        assert (function.resources.milli_cpu_max, function.resources.memory_mb_max) == (
            1000 * machine.cores,
            1024 * machine.memory_gib,
        )
        assert function.retry_policy.retries == 0
        assert function.single_use_containers
        settings = function.autoscaler_settings
        assert (settings.min_containers, settings.max_containers, settings.buffer_containers) == (0, 1, 0)
        assert [mount.mount_path for mount in function.volume_mounts] == ["/weights"]
        assert function.module_name == "kvsim.measure.cloud.remote"
    assert (run.resources.gpu_config.gpu_type, run.resources.gpu_config.count) == ("H100!", 2)
    assert prepare.resources.gpu_config.count == 0
    assert list(run.scheduler_placement.regions) == ["us-east"]
    assert (list(prepare.secret_ids), list(run.secret_ids)) == (["st-1"], [])


def test_the_image_is_pinned_and_a_gpu_waits_for_no_download(carried_out: Carried) -> None:
    plane = ControlPlane({"prepare": lambda model, revision: "abc123", "run": lambda plan, marks: {}})
    carried_out(plane, tiny())
    commands = [list(image.dockerfile_commands) for image in plane.images]
    assert ["FROM nvidia/cuda:13.0.2-devel-ubuntu24.04" in each for each in commands].count(True) == 2
    assert sum("vllm==0.32.0" in " ".join(each) for each in commands) == 2
    assert sum("ENV HF_HUB_OFFLINE=1" in each for each in commands) == 1
    assert not any(":latest" in command for each in commands for command in each)


def test_files_come_back_of_the_commit_that_was_got(carried_out: Carried) -> None:
    plane = ControlPlane({"prepare": lambda model, revision: "abc123"})
    polls = iter([WAITS, {"run.json": b"{}"}])

    def run(plan: CloudPlan, marks: Any) -> Any:
        plane.answers["revision"] = lambda: plan.revision
        plane.mark(STARTED, 1.0)
        return next(polls)

    plane.answers["run"] = run
    files, told = carried_out(plane, tiny())
    assert files == {"run.json": b"{}"}
    assert plane.answers["revision"]() == "abc123"
    assert told[:2] == ["getting Qwen/Qwen3-0.6B into the volume kvsim-weights", "waiting for 1 x L4, 8 cores, 64 GiB"]
    assert plane.names()[-1] == "AppClientDisconnect"


def _over_time(plan: CloudPlan, marks: Any) -> Any:
    return WAITS


def _failing(plan: CloudPlan, marks: Any) -> Any:
    raise ConfigError("the machine was taken away during the run")


def _broken(plan: CloudPlan, marks: Any) -> Any:
    raise ZeroDivisionError("a defect\nof the body")


@pytest.mark.parametrize(
    "run, message, is_cancelled",
    [
        (_over_time, "not over 1 s after it began, and ended", True),
        (_failing, "the machine was taken away", True),
        (_broken, "in the container: ZeroDivisionError: a defect of the body", True),
    ],
)
def test_whatever_happens_it_is_one_line_and_the_app_is_stopped(
    carried_out: Carried, monkeypatch: pytest.MonkeyPatch, run: Any, message: str, is_cancelled: bool
) -> None:
    monkeypatch.setattr(modal_app, "GRACE_S", 0)
    plan = tiny()
    plan = replace(plan, limits=replace(plan.limits, run_s=1))
    plane = ControlPlane({"prepare": lambda model, revision: "abc", "run": run})
    plane.mark(STARTED, 1.0)
    with pytest.raises(ConfigError) as raised:
        carried_out(plane, plan)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    cancelled = [request for name, request in plane.asked if name == "FunctionCallCancel"]
    assert [request.terminate_containers for request in cancelled] == [True] * is_cancelled
    assert plane.names()[-1] == "AppClientDisconnect"


def test_an_interrupt_stops_it(carried_out: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = ControlPlane({"prepare": lambda model, revision: "abc"})
    polls = 0

    def run(plan: CloudPlan, marks: Any) -> Any:
        nonlocal polls
        polls += 1
        return WAITS

    plane.answers["run"] = run
    watched = modal_app._watched

    def interrupted(call: Any, marks: Any, plan: CloudPlan, tell: Any) -> Any:
        class Marks:
            def get(self, key: str) -> Any:
                raise KeyboardInterrupt

        return watched(call, Marks(), plan, tell)

    monkeypatch.setattr(modal_app, "_watched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carried_out(plane, tiny())
    assert plane.names().count("FunctionCallCancel") == 1
    assert plane.names()[-1] == "AppClientDisconnect"


WITHOUT_MODAL = """
import sys
sys.modules["modal"] = None
from kvsim.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _without_package(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MODAL, "modal", *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_dry_run_needs_no_package_and_a_run_says_which(tmp_path: Path) -> None:
    dry = _without_package("streaming", "--gpu", "H100", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "costs at most" in dry.stdout
    run = _without_package("streaming", "--out", str(tmp_path / "out"))
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "kvsim: error: running on Modal needs its package: pip install 'kvsim[modal]'\n"
