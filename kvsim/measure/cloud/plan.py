"""A run on a rented GPU, decided whole before anything is paid for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kvsim.errors import ConfigError
from kvsim.measure.cloud.budget import Limits, limits_for
from kvsim.measure.cloud.modes import SHAPES, Mode, Shape
from kvsim.measure.cloud.prices import Machine, gpu_of
from kvsim.spec.prices import AS_OF, SOURCE

if TYPE_CHECKING:
    from kvsim.workload.words import WorkloadWord
    from kvsim.workload.workload import Workload

VLLM = "0.32.0"
DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
"""Small, and open to all without a token."""
PORT = 8000
SERVER_START_S = 600
"""For weights, compilation and captured graphs."""
LOAD_S = 90
"""For a load, where nobody says otherwise; what has not been answered by then is not waited for."""
PROBE_S = 60
STOP_S = 30
"""For a server to end, each time."""
MOST_LOADS = 100
_OWN = ("host", "port", "revision", "tensor-parallel-size", "tp", "enable-prefix-caching", "no-enable-prefix-caching",
        "api-key", "ssl-keyfile", "uds", "root-path", "headless", "config", "model", "hf-token",
        "data-parallel-size", "dp", "nnodes")  # fmt: skip
"""Flags of ``vllm serve`` that ``--server-args`` cannot have: the plan sets them, or they would hide the server from
its client, be a secret, or take other GPUs."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What somebody wants to run; ``None`` and () are the mode's own."""

    mode: Mode
    gpu: str = "l4"
    gpus: int = 1
    model: str = DEFAULT_MODEL
    revision: str | None = None
    workloads: Sequence[str] = ()
    concurrency: Sequence[int] = ()
    rate_per_s: float | None = None
    requests: int | None = None
    """How many a load has."""
    load_s: float = LOAD_S
    server_args: str = ""
    region: str | None = None
    max_usd: float = 5.0
    hf_secret: str | None = None
    """The name of a secret kept at Modal with an ``HF_TOKEN``, for models that want one."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests for a server, and how they are told apart from other loads."""

    name: str
    words: str
    workload: Workload
    limit_s: float
    prefix_caching: bool
    content: Workload | None = None
    """What it is a part of, where its prompts are to be found by other loads; ``None``: it is all there is."""
    content_seed: int | None = None
    """Seed of its token ids; ``None``: one of its own, so that no other load finds its prompts."""

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "words": self.words,
            "requests": len(self.workload),
            "prompt_tokens": int(self.workload.prompt_tokens.sum()),
            "output_tokens": int(self.workload.output_tokens.sum()),
            "prefix_caching": self.prefix_caching,
            "limit_s": self.limit_s,
        }


@dataclass(frozen=True, kw_only=True)
class CloudPlan:
    """All that a run is made of."""

    mode: Mode
    machine: Machine
    model: str
    revision: str | None
    server_args: tuple[str, ...]
    loads: tuple[Load, ...]
    limits: Limits
    max_usd: float
    hf_secret: str | None
    seed: int
    notes: tuple[str, ...] = field(default=())
    """What a reader should know before it is begun."""

    @property
    def shape(self) -> Shape:
        return SHAPES[self.mode]

    @property
    def bound_usd(self) -> float:
        """What it costs at most."""
        return self.limits.usd(self.machine)

    @property
    def cachings(self) -> tuple[bool, ...]:
        """With prefix caching or without: a server for each, in this order."""
        return tuple(dict.fromkeys(load.prefix_caching for load in self.loads))

    def command(self, *, prefix_caching: bool) -> tuple[str, ...]:
        """The line that starts the server."""
        return ("vllm", "serve", self.model, *self.arguments(prefix_caching=prefix_caching), "--host", "127.0.0.1",
                "--port", str(PORT), "--enable-prompt-tokens-details")  # fmt: skip

    def arguments(self, *, prefix_caching: bool) -> tuple[str, ...]:
        """What the engine is told, in a server or without one."""
        return (
            *(() if self.revision is None else ("--revision", self.revision)),
            "--tensor-parallel-size",
            str(self.machine.gpus),
            "--enable-prefix-caching" if prefix_caching else "--no-enable-prefix-caching",
            *self.server_args,
        )

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        gpu = self.machine.gpu
        runs = self.shape.runs
        return {
            "mode": self.mode.value,
            "gpu": None if gpu is None else gpu.asked,
            "gpus": self.machine.gpus,
            "machine": self.machine.words,
            "vllm_version": VLLM,
            "model": None if runs == "nothing" else self.model,
            "revision": self.revision,
            "commands": [shlex.join(self.command(prefix_caching=each)) for each in self.cachings if runs == "server"],
            "loads": [load.dump() for load in self.loads],
            "seed": self.seed,
            "prepare_s": self.limits.prepare_s,
            "run_s": self.limits.run_s,
            "usd_per_s": self.machine.usd_per_s,
            "max_usd": self.max_usd,
            "bound_usd": self.bound_usd,
            "prices": f"{SOURCE}, {AS_OF}",
            "notes": list(self.notes),
        }


def plan_for(ask: Ask) -> CloudPlan:
    """Raises ``ConfigError`` or ``WorkloadError`` for what cannot be run, and ``CapacityError`` where a model that
    kvsim knows does not fit the GPUs that were asked for."""
    shape, gpu = SHAPES[ask.mode], gpu_of(ask.gpu)
    _check(ask, shape)
    machine = Machine(cores=8, memory_gib=64 * max(1, ask.gpus // 2), gpu=gpu, gpus=ask.gpus, region=ask.region)
    args = server_args_of(ask.server_args)
    if not gpu.has_bf16 and shape.runs != "nothing" and not any(word.startswith("--dtype") for word in args):
        args = (*args, "--dtype", "half")
    loads = _loads(ask, shape)
    wanted_s = PROBE_S + shape.starts * (SERVER_START_S + STOP_S) + sum(load.limit_s for load in loads)
    limits = limits_for(machine, wanted_s, ask.max_usd, prepares=shape.runs != "nothing")
    plan = CloudPlan(
        mode=ask.mode,
        machine=machine,
        model=ask.model,
        revision=ask.revision,
        server_args=args,
        loads=loads,
        limits=limits,
        max_usd=ask.max_usd,
        hf_secret=ask.hf_secret,
        seed=ask.seed,
    )
    return plan if shape.runs == "nothing" else checked(plan)


def _check(ask: Ask, shape: Shape) -> None:
    """Whether the flags go with the mode and with each other."""
    if shape.runs == "nothing":
        given = {"--workload": ask.workloads, "--concurrency": ask.concurrency, "--rate": ask.rate_per_s,
                 "--requests": ask.requests, "--server-args": ask.server_args}  # fmt: skip
        for flag, value in given.items():
            if value:
                raise ConfigError(f"{flag} does not go with the mode {ask.mode}, which serves nothing")
    if ask.rate_per_s is not None and ask.concurrency:
        raise ConfigError("--rate and --concurrency exclude each other; give one")
    if ask.rate_per_s is not None and shape.runs == "engine":
        raise ConfigError(f"--rate does not go with the mode {ask.mode}, which is given its requests at once")
    if ask.mode is not Mode.SWEEP:
        for flag, values in {"--workload": ask.workloads, "--concurrency": ask.concurrency}.items():
            if len(values) > 1:
                raise ConfigError(f"{flag}: several go with the mode {Mode.SWEEP} alone, not with {ask.mode}")


def server_args_of(text: str) -> tuple[str, ...]:
    """Further words for the server. Raises ``ConfigError`` for those that are not for anybody to set."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"--server-args {text!r}: {str(error).lower()}") from None
    for word in words:
        name = word.split("=", 1)[0].lstrip("-").replace("_", "-")
        if word.startswith("-") and name in _OWN:
            raise ConfigError(f"--server-args: --{name} is not for it to set (docs/modal.md)")
    if words and not words[0].startswith("-"):
        raise ConfigError(f"--server-args {text!r}: must begin with a flag of vllm serve; the model is --model")
    return words


def _loads(ask: Ask, shape: Shape) -> tuple[Load, ...]:
    """The grid of workloads, users and caching, those of one server together."""
    from kvsim.workload.words import word_of

    words = [word_of(text) for text in ask.workloads or shape.workloads]
    users: Sequence[int | None] = [None] if ask.rate_per_s is not None else [*(ask.concurrency or shape.concurrency)]
    grid = [(caching, word, each) for caching in shape.prefix_caching for word in words for each in users]
    if len(grid) > MOST_LOADS:
        raise ConfigError(f"{len(grid)} loads; allowed: {MOST_LOADS} or fewer")
    return tuple(_load(ask, shape, word, words.index(word) + 1, each, caching) for caching, word, each in grid)


def _load(ask: Ask, shape: Shape, word: WorkloadWord, place: int, users: int | None, caching: bool) -> Load:
    """``users``: ``None`` where requests come at a rate."""
    requests = ask.requests or shape.requests_per_user * (users or max(shape.concurrency))
    if users is not None:
        name, asked = f"users{users}", f"{users} at a time"
        workload = word.users(users, requests, ask.seed)
    else:
        assert ask.rate_per_s is not None
        name, asked = f"rate{ask.rate_per_s:g}", f"{ask.rate_per_s:g} requests/s"
        workload = word.generate(requests, ask.rate_per_s, ask.seed)
    if shape.runs == "engine" and workload.graph is not None:
        raise ConfigError(f"--workload {word.text}: has turns that wait for answers; the mode engine sends all at once")
    return Load(
        name=f"{'cached' if caching else 'uncached'}-w{place}-{name}",
        words=f"{word.text}, {asked}",
        workload=workload,
        limit_s=ask.load_s,
        prefix_caching=caching,
    )


def checked(plan: CloudPlan) -> CloudPlan:
    """Read the server's line as kvsim reads any, and see whether the model fits; nothing is paid for to find out."""
    from kvsim.launch import read_launch_line
    from kvsim.plan.deployment import load_deployment
    from kvsim.plan.instance import spec_of
    from kvsim.spec.catalogue import find_model

    launches = [read_launch_line(shlex.join(plan.command(prefix_caching=each))) for each in plan.cachings]
    for launch in launches:
        if launch.refusals:
            raise ConfigError(f"--server-args: {launch.refusals[0]}")
    gpu = plan.machine.gpu
    assert gpu is not None
    if gpu.kvsim is None:
        return replace(plan, notes=(f"kvsim knows no {gpu.asked}: whether the model fits is not checked",))
    try:
        find_model(plan.model)
    except ConfigError:
        return replace(plan, notes=(f"kvsim does not know {plan.model}: whether it fits is not checked",))
    config = load_deployment(launches[0], gpu=gpu.kvsim).config
    room = spec_of(config, "colocated").num_blocks * spec_of(config, "colocated").block_size_tokens
    longest = max(int((load.workload.prompt_tokens + load.workload.output_tokens).max()) for load in plan.loads)
    return replace(plan, notes=(f"predicted KV cache: {room:,} tokens; the longest request has {longest:,}",))
