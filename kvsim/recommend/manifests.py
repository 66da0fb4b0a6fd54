"""A deployment as Kubernetes is told of it: Dynamo's graph, the values of llm-d's chart, KServe's service.

Fields are those of the published types: ``deploy/operator/api/v1alpha1`` of ai-dynamo/dynamo, the chart
llm-d-modelservice of llm-d-incubation with its ``values.schema.json``, and
``pkg/apis/serving/v1alpha1/llm_inference_service_types.go`` of kserve/kserve.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import yaml

_VLLM_IMAGE, _DYNAMO_IMAGE = "vllm/vllm-openai:latest", "nvcr.io/nvidia/ai-dynamo/vllm-runtime:my-tag"
_NIXL_HOST = {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
"""Where the other side of a transfer finds a pod."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """Servers of one kind, alike."""

    name: str
    servers: int
    tensor_parallel: int
    data_parallel: int
    is_expert_parallel: bool
    arguments: tuple[str, ...]
    """Behind the model of ``vllm serve``."""
    placed_arguments: tuple[str, ...]
    """``arguments`` without where a server listens."""
    engine_arguments: tuple[str, ...]
    """``arguments`` without those of the HTTP server."""

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.data_parallel


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Servers and how requests come to them."""

    name: str
    model: str
    roles: tuple[Role, ...]
    """Prefill and decode, or one kind that does both."""
    routes_by_prefix: bool
    gpus_per_host: int

    @property
    def is_pd(self) -> bool:
        return len(self.roles) > 1

    def hosts(self, role: Role) -> int:
        """Hosts that one server of a role is spread over."""
        return -(-role.gpus // self.gpus_per_host)


class _Plain(yaml.SafeDumper):
    """Every value where it belongs: an alias would tie what is edited by hand to another place."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(tree: dict[str, Any]) -> str:
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False, width=1000)


def dynamo_graph(deployment: Deployment) -> str:
    """A ``DynamoGraphDeployment``: a front end that routes, and workers."""
    mode = "kv" if deployment.routes_by_prefix else "least-loaded"
    frontend = {
        "componentType": "frontend",
        "replicas": 1,
        "envs": [{"name": "DYN_ROUTER_MODE", "value": mode}],
        "extraPodSpec": {"mainContainer": {"image": _DYNAMO_IMAGE}},
    }
    names = {"prefill": "VllmPrefillWorker", "decode": "VllmDecodeWorker", "server": "VllmWorker"}
    workers = {names[role.name]: _dynamo_worker(deployment, role) for role in deployment.roles}
    return _text(
        {
            "apiVersion": "nvidia.com/v1alpha1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": deployment.name},
            "spec": {"backendFramework": "vllm", "services": {"Frontend": frontend} | workers},
        }
    )


def _dynamo_worker(deployment: Deployment, role: Role) -> dict[str, Any]:
    hosts = deployment.hosts(role)
    split = ["--disaggregation-mode", role.name] if deployment.is_pd else []
    worker: dict[str, Any] = {"componentType": "worker"}
    if deployment.is_pd:
        worker["subComponentType"] = role.name
    worker |= {
        "replicas": role.servers,
        "envFromSecret": "hf-token-secret",
        "resources": {"limits": {"gpu": str(role.gpus // hosts)}},
        "extraPodSpec": {
            "mainContainer": {
                "image": _DYNAMO_IMAGE,
                "workingDir": "/workspace/examples/backends/vllm",
                "command": ["python3", "-m", "dynamo.vllm"],
                "args": ["--model", deployment.model, *role.engine_arguments, *split],
            }
        },
    }
    return worker | ({"multinode": {"nodeCount": hosts}} if hosts > 1 else {})


def llmd_values(deployment: Deployment) -> str:
    """Values for the chart llm-d-modelservice. What serves both is its decode workload, without a sidecar."""
    roles = {"decode" if role.name == "server" else role.name: role for role in deployment.roles}
    values: dict[str, Any] = {
        "modelArtifacts": {
            "name": deployment.model,
            "uri": f"hf://{deployment.model}",
            "size": "500Gi",
            "authSecretName": "llm-d-hf-token",
            "labels": {"llm-d.ai/inferenceServing": "true", "llm-d.ai/model": deployment.name},
        },
        "multinode": any(deployment.hosts(role) > 1 for role in deployment.roles),
        "routing": {
            "servicePort": 8000,
            "proxy": {"enabled": deployment.is_pd, "connector": "nixlv2", "targetPort": 8200},
        },
    }
    for name in ("decode", "prefill"):
        role = roles.get(name)
        values[name] = {"create": False} if role is None else _llmd_workload(deployment, role)
    return _text(values)


def _llmd_workload(deployment: Deployment, role: Role) -> dict[str, Any]:
    hosts = deployment.hosts(role)
    container: dict[str, Any] = {
        "name": "vllm",
        "image": _VLLM_IMAGE,
        "modelCommand": "vllmServe",
        "args": list(role.placed_arguments),
        "mountModelVolume": True,
    }
    if deployment.is_pd:
        container["env"] = [_NIXL_HOST]
    local = max(role.data_parallel // hosts, 1)
    parallelism = {
        "tensor": role.tensor_parallel,
        "data": role.data_parallel,
        "dataLocal": local,
        "workers": role.data_parallel // local,
    }
    return {"create": True, "replicas": role.servers, "parallelism": parallelism, "containers": [container]}


def llm_inference_service(deployment: Deployment) -> str:
    """An ``LLMInferenceService``: the workload that decodes or does both, and a prefill workload beside it."""
    roles = {role.name: role for role in deployment.roles}
    scheduler: dict[str, Any] = {} if deployment.routes_by_prefix or deployment.is_pd else _least_loaded()
    spec: dict[str, Any] = {
        "model": {"uri": f"hf://{deployment.model}", "name": deployment.model},
        **_kserve_workload(deployment, roles["decode"] if deployment.is_pd else roles["server"]),
        "router": {"route": {}, "gateway": {}, "scheduler": scheduler},
    }
    if deployment.is_pd:
        spec["prefill"] = _kserve_workload(deployment, roles["prefill"])
    return _text(
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LLMInferenceService",
            "metadata": {"name": deployment.name},
            "spec": spec,
        }
    )


def _kserve_workload(deployment: Deployment, role: Role) -> dict[str, Any]:
    hosts = deployment.hosts(role)
    gpus = {"nvidia.com/gpu": str(role.gpus // hosts)}
    container: dict[str, Any] = {
        "name": "main",
        "env": [
            {"name": "VLLM_ADDITIONAL_ARGS", "value": shlex.join(role.placed_arguments)},
            *([_NIXL_HOST] if deployment.is_pd else []),
        ],
        "resources": {"limits": gpus, "requests": gpus.copy()},
    }
    parallelism: dict[str, Any] = {"tensor": role.tensor_parallel}
    if role.data_parallel > 1:
        parallelism |= {"data": role.data_parallel, "dataLocal": max(role.data_parallel // hosts, 1)}
    if role.is_expert_parallel:
        parallelism["expert"] = True
    workload: dict[str, Any] = {
        "replicas": role.servers,
        "parallelism": parallelism,
        "template": {"containers": [container]},
    }
    return workload | ({"worker": {"containers": [container.copy()]}} if hosts > 1 else {})


def _least_loaded() -> dict[str, Any]:
    """An endpoint picker that looks at queues alone."""
    plugins = ("single-profile-handler", "queue-scorer", "max-score-picker")
    inline = {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [{"type": name} for name in plugins],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": "queue-scorer"}, {"pluginRef": "max-score-picker"}]}
        ],
    }
    return {"config": {"inline": inline}}
