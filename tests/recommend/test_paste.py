"""What is to be pasted: read again it is the candidate, and it is as the published schemas have it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml
from asked import LLAMA_8B, LLAMA_70B, question
from published_schemas import DynamoGraphDeployment, LlmdValues, LLMInferenceService
from pydantic import ValidationError

from kvsim.launch import read_launch_line
from kvsim.launch.flags import flags_of
from kvsim.launch.parser import parse
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.paste import NIXL, Configuration, configuration_of
from kvsim.recommend.question import Question
from kvsim.recommend.space import Space
from kvsim.recommend.tables import folded

OWN = f"{LLAMA_70B} --port 9000 --max-model-len 32k --no-enable-prefix-caching --kv-cache-dtype fp8 -tp 8"
CASES = {
    "unified": (LLAMA_70B, Family("unified", 4, 4), (3, 0), "least_loaded"),
    "one server": (OWN, Family("unified", 8, 8), (1, 0), "affinity"),
    "pd": (LLAMA_70B, Family("pd", 4, 8), (2, 1), "affinity"),
    "experts": ("vllm serve Qwen/Qwen3-30B-A3B", Family("unified", 1, 1, 8), (2, 0), "affinity"),
    "experts on two hosts": (
        "vllm serve Qwen/Qwen3-30B-A3B -dp 16 --enable-expert-parallel", Family("pd", 1, 1, 16), (1, 1), "affinity"
    ),
}  # fmt: skip


def made(name: str) -> tuple[Question, Candidate, Configuration]:
    line, family, counts, routing = CASES[name]
    asked = question(line, gpus=64)
    candidate = Candidate(family, counts, Arguments(2048, 128, routing))
    return asked, candidate, configuration_of(asked, Space(asked), candidate)


@pytest.mark.parametrize("name", CASES)
def test_lines_read_again_are_the_candidate(name: str) -> None:
    _, candidate, found = made(name)
    family = candidate.family
    degrees = (family.prefill, family.decode) if family.is_pd else (family.prefill,)
    assert [one.servers for one in found.vllm] == list(candidate.counts[: len(degrees)])
    assert sum(one.servers * one.gpus_each for one in found.vllm) == candidate.gpus
    for server, degree in zip(found.vllm, degrees, strict=True):
        again = read_launch_line(server.command)
        assert again.arguments["tensor_parallel_size"] == degree
        assert (again.arguments["max_num_batched_tokens"], again.arguments["max_num_seqs"]) == (2048, 128)
        assert again.arguments.get("data_parallel_size", 1) == family.data_parallel
        assert again.arguments.get("enable_expert_parallel", False) == (family.data_parallel > 1)
        words = parse("vllm", shlex.split(server.command)[2:])[0]
        connector = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
        assert words.get("--kv-transfer-config") == (connector if family.is_pd else None)
        assert folded(server.command).replace("\\\n", "").split() == shlex.join(shlex.split(server.command)).split()


def test_what_was_simulated_and_no_file_says_is_noted() -> None:
    """Of what is set beside the line, and of memory that a line does not have."""
    sets = ("engine.gpu_memory_utilization=0.5", "engine.max_num_seqs=64", "seed=3", "hardware.dram.capacity_gb=100")
    family = Family("unified", 1, 1)
    for line, noted in ((LLAMA_8B, True), (f"{LLAMA_8B} --kv-offloading-size 50", False)):
        asked = question(line, sets=sets, tiers=("dram",))
        candidate = Candidate(family, (1, 0), Arguments(2048, 64, "affinity", ("dram",)))
        notes = " ".join(configuration_of(asked, Space(asked), candidate).notes)
        keys = "engine.gpu_memory_utilization=0.5, hardware.dram.capacity_gb=100"
        assert f"simulated with {keys}, which no file says" in notes
        assert ("was simulated (dram of 100 GB a host) and is in no file" in notes) == noted
    asked = question(LLAMA_8B)
    assert not configuration_of(asked, Space(asked), Candidate(family, (1, 0), Arguments(2048, 64, "affinity"))).notes


def test_the_lines_own_flags_stay_once() -> None:
    _, _, found = made("one server")
    given, model = parse("vllm", shlex.split(found.vllm[0].command)[2:])
    assert model == ["meta-llama/Llama-3.1-70B-Instruct"]
    assert (given["--port"], given["--max-model-len"], given["--kv-cache-dtype"]) == (9000, 32000, "fp8")
    assert given["--enable-prefix-caching"] is False
    assert found.vllm[0].command.count("--tensor-parallel-size") == 1


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_as_published(name: str) -> None:
    _, candidate, found = made(name)
    dynamo = DynamoGraphDeployment.model_validate(yaml.safe_load(found.dynamo))
    llmd = LlmdValues.model_validate(yaml.safe_load(found.llmd))
    kserve = LLMInferenceService.model_validate(yaml.safe_load(found.kserve))
    assert not any(re.search(r"[&*]id\d", text) for text in (found.dynamo, found.llmd, found.kserve))
    workers = {name: one for name, one in dynamo.spec.services.items() if one.componentType == "worker"}
    hosts = {one: worker.multinode.nodeCount if worker.multinode else 1 for one, worker in workers.items()}
    gpus = sum(
        worker.replicas * hosts[one] * int(worker.resources.limits.gpu)
        for one, worker in workers.items()
        if worker.resources
    )
    assert gpus == candidate.gpus
    of_llmd = [one for one in (llmd.decode, llmd.prefill) if one.create]
    assert candidate.gpus == sum(
        (one.replicas or 0) * one.parallelism.tensor * one.parallelism.data for one in of_llmd if one.parallelism
    )
    assert all(
        one.parallelism.dataLocal * one.parallelism.workers == one.parallelism.data
        for one in of_llmd
        if one.parallelism
    )
    assert llmd.routing.proxy.enabled == candidate.family.is_pd == (kserve.spec.prefill is not None)
    workloads = [kserve.spec, *([kserve.spec.prefill] if kserve.spec.prefill else [])]
    assert candidate.gpus == sum(
        one.replicas * one.parallelism.tensor * (one.parallelism.data or 1) for one in workloads
    )


def test_dynamo_gets_no_flags_of_the_http_server() -> None:
    _, _, found = made("one server")
    services = yaml.safe_load(found.dynamo)["spec"]["services"]
    args = services["VllmWorker"]["extraPodSpec"]["mainContainer"]["args"]
    assert "--port" not in args and "--max-model-len" in args
    simulated = {name for flag in flags_of("vllm") if flag.role == "simulated" for name in flag.spellings}
    assert {word for word in args if word.startswith("--")} - simulated <= {"--model", "--no-enable-prefix-caching"}


def test_where_a_server_listens_is_the_charts_to_say_and_what_dynamo_lacks_is_noted() -> None:
    """Pods that listen elsewhere than their services and probes look are never ready."""
    asked = question(f"{LLAMA_8B} --port 9000 --host 0.0.0.0 --trust-remote-code --max-model-len 32k")
    candidate = Candidate(Family("unified", 1, 1), (1, 0), Arguments(2048, 64, "affinity"))
    found = configuration_of(asked, Space(asked), candidate)
    kserve = yaml.safe_load(found.kserve)["spec"]["template"]["containers"][0]["env"][0]["value"]
    for placed in (kserve, found.llmd):
        assert "--port" not in placed and "--host" not in placed and "--trust-remote-code" in placed
        assert "--max-model-len" in placed
    assert "--port 9000" in found.vllm[0].command and "--trust-remote-code" not in found.dynamo
    assert "dynamo: its workers are given no --trust-remote-code," in " ".join(found.notes)


@pytest.mark.parametrize("family", [Family("unified", 1, 1), Family("pd", 1, 1)])
def test_a_connector_of_the_line_stays_where_nothing_is_handed_over(family: Family) -> None:
    own = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
    asked = question(f"{LLAMA_8B} --kv-transfer-config '{json.dumps(own)}'")
    candidate = Candidate(family, (1, int(family.is_pd)), Arguments(2048, 64, "affinity"))
    found = configuration_of(asked, Space(asked), candidate)
    (command,) = {one.command for one in found.vllm}
    words = parse("vllm", shlex.split(command)[2:])[0]
    assert words["--kv-transfer-config"] == (NIXL if family.is_pd else own)
    assert command.count("--kv-transfer-config") == 1
    assert ("of the line gave way" in " ".join(found.notes)) == family.is_pd


@pytest.mark.parametrize("servers", [1, 2])
def test_one_server_has_no_router_before_it_however_many_engines_it_has(servers: int) -> None:
    asked = question(f"{LLAMA_8B} --data-parallel-size 2", gpus=4)
    candidate = Candidate(Family("unified", 1, 1, 2), (servers, 0), Arguments(2048, 64, "affinity"))
    notes = configuration_of(asked, Space(asked), candidate).notes
    assert any("a router before the servers" in note for note in notes) == (servers > 1)


def test_routing_is_said_where_it_can_be() -> None:
    _, _, found = made("unified")
    services = yaml.safe_load(found.dynamo)["spec"]["services"]
    assert services["Frontend"]["envs"] == [{"name": "DYN_ROUTER_MODE", "value": "least-loaded"}]
    inline = yaml.safe_load(found.kserve)["spec"]["router"]["scheduler"]["config"]["inline"]
    assert {"type": "queue-scorer"} in inline["plugins"]
    assert any("least loaded" in note for note in found.notes)


@pytest.mark.parametrize(
    ("schema", "part", "value"),
    [
        (DynamoGraphDeployment, ("spec", "services", "VllmWorker", "replicas"), -1),
        (DynamoGraphDeployment, ("spec", "nodes"), 2),
        (LlmdValues, ("decode", "parallelism", "tensor"), 0),
        (LLMInferenceService, ("spec", "template", "containers"), []),
    ],
)
def test_the_schemas_refuse_what_is_wrong(schema: type, part: tuple[str, ...], value: object) -> None:
    _, _, found = made("unified")
    text = {DynamoGraphDeployment: found.dynamo, LlmdValues: found.llmd, LLMInferenceService: found.kserve}[schema]
    tree = yaml.safe_load(text)
    below = tree
    for key in part[:-1]:
        below = below[key]
    below[part[-1]] = value
    with pytest.raises(ValidationError):
        schema.model_validate(tree)  # type: ignore[attr-defined]
