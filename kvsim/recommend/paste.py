"""What to paste: the lines that start the servers of a deployment, and the manifests that have a cluster start them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from kvsim.launch.command import server_command
from kvsim.launch.flags import flags_of
from kvsim.launch.parser import parse, words_of
from kvsim.recommend.candidates import Candidate
from kvsim.recommend.manifests import Deployment, Role, dynamo_graph, llm_inference_service, llmd_values
from kvsim.recommend.question import Question
from kvsim.recommend.space import Space

NIXL = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
"""vLLM's connector between prefill and decode servers, whose roles a router decides."""
_OWN = (
    "--tensor-parallel-size",
    "--data-parallel-size",
    "--enable-expert-parallel",
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--model",
)
"""Flags that a candidate sets, whatever the line has."""
_LISTENING = ("--host", "--port", "--uds")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Servers of one kind."""

    role: str
    """``server``, ``prefill`` or ``decode``."""
    servers: int
    gpus_each: int
    command: str


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A deployment in the words of those who start it; YAML as text."""

    vllm: tuple[Server, ...]
    dynamo: str
    """A graph deployment: nvidia.com/v1alpha1 DynamoGraphDeployment."""
    llmd: str
    """Values of llm-d's chart llm-d-modelservice."""
    kserve: str
    """serving.kserve.io/v1alpha1 LLMInferenceService."""
    notes: tuple[str, ...]
    """What none of these files has."""


def configuration_of(question: Question, space: Space, candidate: Candidate) -> Configuration:
    """The configuration of ``candidate``: the line's own flags, and what was found."""
    deployment = _deployment(question, space, candidate)
    return Configuration(
        vllm=tuple(
            Server(
                role=role.name,
                servers=role.servers,
                gpus_each=role.gpus,
                command=shlex.join(["vllm", "serve", deployment.model, *role.arguments]),
            )
            for role in deployment.roles
        ),
        dynamo=dynamo_graph(deployment),
        llmd=llmd_values(deployment),
        kserve=llm_inference_service(deployment),
        notes=_notes(question, space, candidate, deployment),
    )


def _deployment(question: Question, space: Space, candidate: Candidate) -> Deployment:
    family, config = candidate.family, space.loaded.config
    degrees = (family.prefill, family.decode) if family.is_pd else (family.prefill,)
    names = ("prefill", "decode") if family.is_pd else ("server",)
    roles = []
    for name, degree, servers in zip(names, degrees, candidate.counts, strict=False):
        own = _flags(space, candidate, degree)
        roles.append(
            Role(
                name=name,
                servers=servers,
                tensor_parallel=degree,
                data_parallel=family.data_parallel,
                is_expert_parallel="enable-expert-parallel" in own,
                arguments=tuple(_arguments(_given(question), own)),
                placed_arguments=tuple(_arguments(_placed(question), own)),
                engine_arguments=tuple(_arguments(_engine_alone(question), own)),
            )
        )
    return Deployment(
        name=_dns_name(question.launch.model),
        model=question.launch.model,
        roles=tuple(roles),
        routes_by_prefix=candidate.arguments.routing == "affinity",
        gpus_per_host=config.cluster.network.gpus_per_host,
    )


def _flags(space: Space, candidate: Candidate, degree: int) -> dict[str, Any]:
    """What a candidate sets, by flag."""
    own, family = candidate.arguments, candidate.family
    found: dict[str, Any] = {"tensor-parallel-size": degree}
    if family.data_parallel > 1:
        found["data-parallel-size"] = family.data_parallel
    if space.launch(candidate).arguments.get("enable_expert_parallel"):
        found["enable-expert-parallel"] = True
    found |= {"max-num-batched-tokens": own.max_num_batched_tokens, "max-num-seqs": own.max_num_seqs}
    return found | ({"kv-transfer-config": NIXL} if family.is_pd else {})


def _given(question: Question) -> dict[str, Any]:
    """The line's flags without those that a candidate sets."""
    given, _ = parse("vllm", server_command(question.words).words)
    return {name: value for name, value in given.items() if name not in _OWN}


def _placed(question: Question) -> dict[str, Any]:
    """The given flags without where a server listens, which a chart says itself."""
    return {name: value for name, value in _given(question).items() if name not in _LISTENING}


def _engine_alone(question: Question) -> dict[str, Any]:
    """The given flags that are simulated: others may be of the HTTP server, which Dynamo has a front end for."""
    roles = {flag.name: flag.role for flag in flags_of("vllm")}
    return {name: value for name, value in _given(question).items() if roles.get(name) == "simulated"}


def _arguments(kept: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Flags with their values, and those of a candidate."""
    return words_of([*({name.removeprefix("--"): value for name, value in kept.items()} | own).items()], "vllm")


def _tier(space: Space, name: str) -> str:
    """A tier and how much it holds."""
    own = getattr(space.loaded.config.hardware, name, None)
    capacity_gb = getattr(own, "capacity_gb", None)
    if capacity_gb is None:
        return name
    return f"{name} of {capacity_gb:g} GB {'an instance' if getattr(own, 'scope', '') == 'instance' else 'a host'}"


def _dns_name(model: str) -> str:
    """A name that Kubernetes takes, made of the model's."""
    plain = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower()).strip("-")
    return plain[:40].strip("-") or "model"


def _notes(question: Question, space: Space, candidate: Candidate, deployment: Deployment) -> tuple[str, ...]:
    arguments, notes = candidate.arguments, []
    if candidate.family.is_pd:
        if "--kv-transfer-config" in _given(question):
            notes.append(
                f"--kv-transfer-config of the line gave way to {NIXL['kv_connector']}, which hands over prompts"
            )
        notes.append(
            f"vllm: prompts go to a prefill server, then with their KV ({NIXL['kv_connector']}) to a decode server: a "
            "P/D router stands before them, as Dynamo's, llm-d's and KServe's do"
        )
    elif candidate.routed > 1:
        how = "to whoever holds the longest prefix of theirs" if deployment.routes_by_prefix else "to the least loaded"
        notes.append(f"vllm: a router before the servers sends requests {how}")
    if not deployment.routes_by_prefix and candidate.routed > 1:
        notes.append("llmd: how requests are routed stands in the values of its inference pool, a chart of its own")
    if arguments.tiers and "kv_offloading_size" not in question.launch.arguments:
        tiers = ", ".join(_tier(space, tier) for tier in arguments.tiers)
        notes.append(
            f"memory below the GPUs was simulated ({tiers}) and is in no file: --kv-offloading-size or a connector of "
            "its own sets it up"
        )
    dropped = [name for name in _placed(question) if name not in _engine_alone(question)]
    if dropped:
        notes.append(f"dynamo: its workers are given no {', '.join(dropped)}, which change nothing that is simulated")
    if space.unsaid:
        keys = ", ".join(f"{key}={json.dumps(value)}" for key, value in space.unsaid.items())
        notes.append(f"simulated with {keys}, which no file says: flags in LINE are pasted, --set is not")
    return tuple(notes)
