"""The parts of published schemas that a recommended configuration uses, as types that refuse everything else.

- Dynamo: ``DynamoGraphDeploymentSpec``, ``DynamoComponentDeploymentSharedSpec``, ``Resources``, ``ExtraPodSpec`` and
  ``MultinodeSpec`` of ai-dynamo/dynamo, ``deploy/operator/api/v1alpha1``.
- llm-d: ``charts/llm-d-modelservice/values.schema.json`` and ``values.yaml`` of llm-d-incubation/llm-d-modelservice.
- KServe: ``LLMInferenceServiceSpec``, ``WorkloadSpec``, ``ParallelismSpec``, ``RouterSpec`` and ``SchedulerSpec`` of
  kserve/kserve, ``pkg/apis/serving/v1alpha1/llm_inference_service_types.go``; what is inline there is a text of
  ``EndpointPickerConfig``, kubernetes-sigs/gateway-api-inference-extension.
- Kubernetes: ``EnvVar``, ``Container`` and ``ResourceRequirements`` of core/v1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, strict=True)]
Replicas = Annotated[int, Field(ge=0, strict=True)]
Gpus = Annotated[str, Field(pattern=r"^[1-9]\d*$")]
DnsName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Word = Annotated[str, Field(strict=True)]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FieldRef(Closed):
    fieldPath: Word


class ValueFrom(Closed):
    fieldRef: FieldRef


class EnvVar(Closed):
    name: Word
    value: Word | None = None
    valueFrom: ValueFrom | None = None


class Metadata(Closed):
    name: DnsName


class Requirements(Closed):
    limits: dict[Word, Gpus]
    requests: dict[Word, Gpus]


class MainContainer(Closed):
    image: Word
    workingDir: Word | None = None
    command: list[Word] | None = None
    args: list[Word] | None = None


class ExtraPodSpec(Closed):
    mainContainer: MainContainer


class ResourceItem(Closed):
    gpu: Gpus


class DynamoResources(Closed):
    limits: ResourceItem


class Multinode(Closed):
    nodeCount: Annotated[int, Field(ge=2)]


class DynamoComponent(Closed):
    componentType: Literal["frontend", "worker"]
    subComponentType: Literal["prefill", "decode"] | None = None
    replicas: Replicas
    envs: list[EnvVar] | None = None
    envFromSecret: Word | None = None
    resources: DynamoResources | None = None
    extraPodSpec: ExtraPodSpec
    multinode: Multinode | None = None


class DynamoSpec(Closed):
    backendFramework: Literal["sglang", "vllm", "trtllm"]
    services: Annotated[dict[Word, DynamoComponent], Field(max_length=25)]


class DynamoGraphDeployment(Closed):
    apiVersion: Literal["nvidia.com/v1alpha1"]
    kind: Literal["DynamoGraphDeployment"]
    metadata: Metadata
    spec: DynamoSpec


class ModelArtifacts(Closed):
    name: Word
    uri: Annotated[str, Field(pattern=r"^(hf|pvc)://")]
    size: Word
    authSecretName: Word
    labels: dict[Literal["llm-d.ai/inferenceServing", "llm-d.ai/model"], Word]


class Proxy(Closed):
    enabled: bool
    connector: Word
    targetPort: int


class LlmdRouting(Closed):
    servicePort: int
    proxy: Proxy


class LlmdParallelism(Closed):
    tensor: Count
    data: Count
    dataLocal: Count
    workers: Count


class LlmdContainer(Closed):
    name: Word
    image: Word
    modelCommand: Literal["vllmServe", "imageDefault", "custom"]
    args: list[Word]
    env: list[EnvVar] | None = None
    mountModelVolume: bool


class LlmdWorkload(Closed):
    create: bool
    replicas: Replicas | None = None
    parallelism: LlmdParallelism | None = None
    containers: list[LlmdContainer] | None = None


class LlmdValues(Closed):
    modelArtifacts: ModelArtifacts
    multinode: bool
    routing: LlmdRouting
    decode: LlmdWorkload
    prefill: LlmdWorkload


class KserveModel(Closed):
    uri: Annotated[str, Field(pattern=r"^hf://")]
    name: Word


class KserveParallelism(Closed):
    tensor: Count
    data: Count | None = None
    dataLocal: Count | None = None
    expert: bool | None = None


class KserveContainer(Closed):
    name: Literal["main"]
    env: list[EnvVar]
    resources: Requirements


class PodSpec(Closed):
    containers: Annotated[list[KserveContainer], Field(min_length=1)]


class Workload(Closed):
    replicas: Replicas
    parallelism: KserveParallelism
    template: PodSpec
    worker: PodSpec | None = None


class Plugin(Closed):
    type: Word


class PluginRef(Closed):
    pluginRef: Word


class Profile(Closed):
    name: Word
    plugins: list[PluginRef]


class EndpointPicker(Closed):
    apiVersion: Literal["inference.networking.x-k8s.io/v1alpha1"]
    kind: Literal["EndpointPickerConfig"]
    plugins: list[Plugin]
    schedulingProfiles: list[Profile]


class Inline(Closed):
    inline: EndpointPicker


class Scheduler(Closed):
    config: Inline | None = None


class Router(Closed):
    route: dict[str, object]
    gateway: dict[str, object]
    scheduler: Scheduler


class KserveSpec(Workload):
    model: KserveModel
    router: Router
    prefill: Workload | None = None


class LLMInferenceService(Closed):
    apiVersion: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["LLMInferenceService"]
    metadata: Metadata
    spec: KserveSpec
