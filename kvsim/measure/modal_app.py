"""The app at Modal that carries out a plan: image, volume, functions with their limits, and its end in every case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.content import content_root
from kvsim.errors import ConfigError, KvsimError
from kvsim.measure.cloud import remote
from kvsim.measure.cloud.budget import GRACE_S, IDLE_S, PREPARES, STARTUP_S
from kvsim.measure.cloud.image import BASE, CONTENT, ENVIRONMENT, PACKAGES, PYTHON, UV
from kvsim.measure.cloud.plan import CloudPlan
from kvsim.measure.cloud.prices import Machine

if TYPE_CHECKING:
    import modal

APP = "kvsim-measure"
QUEUE_S = 1800
"""For a GPU to be free; waiting for one costs nothing."""
POLL_S = 2.0


@dataclass(frozen=True)
class CloudApp:
    """The app and its functions; ``prepare`` is ``None`` where there is nothing to get."""

    app: modal.App
    run: Any
    prepare: Any | None


def build(plan: CloudPlan) -> CloudApp:
    """Describe it all; nothing is asked of Modal yet. Raises ``ConfigError`` where its package is missing."""
    modal = ensure_modal()
    app = modal.App(APP, include_source=False)
    secrets = [] if plan.hf_secret is None else [modal.Secret.from_name(plan.hf_secret, required_keys=["HF_TOKEN"])]
    prepare = None
    if plan.limits.prepare_s:
        options = options_of(PREPARES, plan.limits.prepare_s)
        prepare = app.function(image=image_of(modal), volumes=_volumes(modal), secrets=secrets, **options)(
            remote.prepare
        )
    options = options_of(plan.machine, plan.limits.run_s)
    # Weights are in the volume by then: nothing is waited for while a GPU is paid for.
    run = app.function(image=image_of(modal, HF_HUB_OFFLINE="1"), volumes=_volumes(modal), **options)(remote.run)
    return CloudApp(app, run, prepare)


def ensure_modal() -> Any:
    """The package. Raises ``ConfigError`` where it is missing."""
    try:
        import modal
    except ImportError:
        raise ConfigError("running on Modal needs its package: pip install 'kvsim[modal]'") from None
    return modal


def check_account() -> None:
    """Raise ``ConfigError`` where Modal's package is missing, or it has no credentials or takes none."""
    modal = ensure_modal()
    with _said_in_a_line(modal):
        modal.Client.from_env()


def options_of(machine: Machine, work_s: int) -> dict[str, Any]:
    """What keeps a function within its bound: limits of cores and memory, time-outs, one container, used once."""
    asked = {} if machine.gpu is None else {"gpu": f"{machine.gpu.asked}:{machine.gpus}"}
    where = {} if machine.region is None else {"region": machine.region}
    return {
        "cpu": (machine.cores, machine.cores),
        "memory": (machine.memory_gib * 1024, machine.memory_gib * 1024),
        "timeout": work_s,
        "startup_timeout": STARTUP_S,
        "scaledown_window": IDLE_S,
        "min_containers": 0,
        "max_containers": 1,
        "single_use_containers": True,
        "retries": 0,
        **asked,
        **where,
    }


def image_of(modal: Any, **environment: str) -> Any:
    """CUDA, vLLM and this very kvsim, which is laid beside and is no layer of the image."""
    package = Path(__file__).resolve().parents[1]
    image = (
        modal.Image.from_registry(BASE, add_python=PYTHON)
        .entrypoint([])
        .uv_pip_install(*PACKAGES, uv_version=UV)
        .env({**ENVIRONMENT, "HF_HOME": remote.WEIGHTS, **environment})
    )
    image = image.add_local_dir(package, "/root/kvsim", ignore=["**/*.so", "**/__pycache__", "_content"])
    for name in CONTENT:
        image = image.add_local_file(content_root() / name, f"/root/kvsim/_content/{name}")
    return image


def _volumes(modal: Any) -> dict[str, Any]:
    return {remote.WEIGHTS: modal.Volume.from_name(remote.VOLUME, create_if_missing=True)}


def run_on_modal(plan: CloudPlan, tell: Callable[[str], None]) -> dict[str, bytes]:
    """Carry ``plan`` out at Modal, and bring its files back. ``tell``: a line on how far it is.

    Whatever happens, the app is stopped and its containers with it. Raises ``ConfigError`` in one line: no credentials,
    no connection, a refusal, or a run that failed.
    """
    modal = ensure_modal()
    built = build(plan)
    with _said_in_a_line(modal):
        client = modal.Client.from_env()
        with modal.Dict.ephemeral(client=client) as marks, built.app.run(client=client):
            if built.prepare is not None:
                tell(f"getting {plan.model} into the volume {remote.VOLUME}")
                limit_s = QUEUE_S + STARTUP_S + plan.limits.prepare_s + GRACE_S
                commit = _waited(built.prepare.spawn(plan.model, plan.revision), limit_s, "getting the weights")
                plan = replace(plan, revision=commit)
            tell(f"waiting for {plan.machine.words}")
            return _watched(built.run.spawn(plan, marks), marks, plan, tell)
    raise KeyboardInterrupt  # With which it is stopped: `app.run` keeps that to itself.


def _watched(call: Any, marks: Any, plan: CloudPlan, tell: Callable[[str], None]) -> dict[str, bytes]:
    """The answer; the wait for a machine and the work each have a limit of their own."""
    queued_s, begun_s = time.monotonic(), 0.0
    try:
        while True:
            try:
                found: dict[str, bytes] = _got(call, POLL_S)
                return found
            except TimeoutError:
                pass
            if not begun_s and marks.get(remote.STARTED) is not None:
                begun_s = time.monotonic()
                tell(f"begun; over in {plan.limits.run_s} s at the latest")
            now_s = time.monotonic()
            if not begun_s and now_s - queued_s > QUEUE_S + STARTUP_S:
                raise ConfigError(f"no machine within {QUEUE_S + STARTUP_S} s; another --gpu or --region may be free")
            if begun_s and now_s - begun_s > plan.limits.run_s + GRACE_S:
                raise ConfigError(f"not over {plan.limits.run_s} s after it began, and ended")
    except BaseException:
        call.cancel(terminate_containers=True)
        raise


def _waited(call: Any, limit_s: float, what: str) -> Any:
    try:
        return _got(call, limit_s)
    except BaseException as error:
        call.cancel(terminate_containers=True)
        if isinstance(error, TimeoutError):
            raise ConfigError(f"{what} took over {limit_s:.0f} s, and was ended") from None
        raise


def _got(call: Any, limit_s: float) -> Any:
    """The answer of a function; what was raised there, raised here in one line. Raises ``TimeoutError``."""
    try:
        return call.get(timeout=limit_s)
    except (TimeoutError, KvsimError, ensure_modal().exception.Error):
        raise
    except Exception as error:
        raise ConfigError(f"in the container: {type(error).__name__}: {_one_line(str(error))}") from None


@contextmanager
def _said_in_a_line(modal: Any) -> Iterator[None]:
    """Modal's own errors, and those of the functions there, as kvsim's."""
    try:
        yield
    except modal.exception.AuthError:
        raise ConfigError(
            "no credentials for Modal that it takes: `modal setup` once, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET in "
            "the environment (--dry-run needs none)"
        ) from None
    except modal.exception.Error as error:
        raise ConfigError(f"Modal: {type(error).__name__}: {_one_line(str(error))}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500] or "it said nothing"
