"""What do CUDA graphs save by batch and by model, and what do they cost in start-up time and memory?

The rule is the lab's own, as step times of kvsim are those of servers with graphs. Eagerly, the host launches every
kernel: a step takes as long as the slower of the GPU, by kvsim's step time, and the host, by kernels times what one
launch takes. With graphs one launch does for all. Of a step that is longer on the GPU nothing is gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.breakdown import operators
from kvsim.lab.charts import curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.words import H100, cell
from kvsim.record.labels import number
from kvsim.steptime.batch import Batch, Decodes
from kvsim.study.pictures import figure_of, legend_below
from kvsim.units import GIB, MICRO, MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.plan.explained import Explainer

MODELS = {
    "Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B-Instruct",
    "Llama-3.2-1B": "meta-llama/Llama-3.2-1B-Instruct",
    "Llama-3.1-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "Llama-3.1-70B, 4 GPUs": "meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4",
}
BATCHES = (1, 8, 64, 256)
CONTEXT_TOKENS = 512
LAUNCH_US = 30.0
"""Host time of an eager operator of PyTorch, Python included; assumed: 20 to 50 are usual."""
CAPTURES_PER_S = 15.0
"""Graphs captured a second, as a log in vLLM's pull request 46389 has it; vLLM 0.6 took 0.4 s each."""


@dataclass(frozen=True, kw_only=True)
class GraphRow:
    """One model's step with one batch."""

    model: str
    batch: int
    kernels: int
    """Kernels that a step launches."""
    graph_ms: float
    eager_ms: float
    speedup: float
    graphs: int
    """How many are captured at the start."""
    capture_s: float
    memory_gib: float
    """KV cache of a GPU that graphs take the place of, by kvsim's rule for vLLM's memory."""


def ask(desk: Desk) -> Answer[GraphRow]:
    """No request is served: steps and memory are looked at by themselves."""
    rows = [row for name, line in MODELS.items() for row in _rows(name, f"vllm serve {line} --max-model-len 4096")]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows))


def eager_s(gpu_s: float, kernels: int, launch_s: float) -> float:
    """The slower of the GPU and the host."""
    return max(gpu_s, kernels * launch_s)


def _rows(name: str, line: str) -> list[GraphRow]:
    captured, eager = explained(line, H100), explained(f"{line} --enforce-eager", H100)
    graphs = len(captured.loaded.config.engine.cudagraph_capture_sizes)
    saved = (_kv_bytes(eager) - _kv_bytes(captured)) / GIB
    found = []
    for batch in BATCHES:
        step = captured.explain(Batch((Decodes(batch, CONTEXT_TOKENS),)))
        kernels = sum(part.work.calls for part in operators(step) if part.work is not None)
        slow_s = eager_s(step.time_s, kernels, LAUNCH_US * MICRO)
        found.append(
            GraphRow(
                model=name,
                batch=batch,
                kernels=kernels,
                graph_ms=step.time_s / MILLI,
                eager_ms=slow_s / MILLI,
                speedup=slow_s / step.time_s,
                graphs=graphs,
                capture_s=graphs / CAPTURES_PER_S,
                memory_gib=saved,
            )
        )
    return found


def _kv_bytes(explainer: Explainer) -> float:
    """The KV cache of one GPU."""
    spec, settings = explainer.instance.spec, explainer.instance.settings
    return settings.num_blocks * settings.block_size * spec.kv_bytes_per_token / spec.num_gpus


def _one(rows: Sequence[GraphRow], model: str, batch: int) -> GraphRow:
    return next(row for row in rows if (row.model, row.batch) == (model, batch))


def _sentence(rows: Sequence[GraphRow]) -> str:
    small, middle = _one(rows, "Qwen2.5-0.5B", 1), _one(rows, "Llama-3.1-8B", 1)
    full = _one(rows, "Llama-3.1-8B", BATCHES[-1])
    return (
        f"graphs make a step of one sequence {number(small.speedup)} times as fast with half a billion parameters "
        f"and {number(middle.speedup)} times with 8 billion, a step of {BATCHES[-1]} sequences with 8 billion "
        f"{number(full.speedup)} times: they help where the GPU waits for the host; {middle.graphs} captures take "
        f"{number(middle.capture_s)} s and {number(middle.memory_gib)} GiB of the KV cache (one H100, {LAUNCH_US:g} us "
        "a launch assumed)"
    )


def _beside(rows: Sequence[GraphRow]) -> tuple[Beside, ...]:
    middle, large = _one(rows, "Llama-3.1-8B", 1), _one(rows, "Llama-3.1-70B, 4 GPUs", 1)
    return (
        Beside(
            what="7 to 8 billion parameters, one sequence",
            theirs="2.3 times",
            ours=f"{number(middle.speedup)} times",
            same_sign=middle.speedup > 1,
            source="Fireworks AI 2023, How CUDA Graphs Enable Fast Python Code: Llama-2-7B",
            why_not_equal="a model in plain PyTorch launches several times as many kernels as an engine's fused ones",
        ),
        Beside(
            what="many layers on several GPUs, one sequence",
            theirs="95 to 66 ms a token: 1.44 times",
            ours=f"{number(large.speedup)} times",
            same_sign=large.speedup > 1,
            source="metaseq merge request 270: 175 billion parameters on eight A100s",
            why_not_equal="another model, twice as many GPUs that are slower",
        ),
    )


def _figure(answer: Answer[GraphRow]) -> Figure:
    figure, (faster, step) = figure_of("CUDA graphs", f"H100, {LAUNCH_US:g} us a launch assumed", 2)
    curves(faster, answer.rows, "model", "batch", "speedup", ("sequences", "times as fast with graphs"), log=True)
    curves(step, answer.rows, "model", "batch", "eager_ms", ("sequences", "eager step (ms)"), log=True)
    legend_below(figure, faster)
    return figure


LAB = Lab(
    title="A decode step eagerly and from a CUDA graph",
    ask=ask,
    columns={
        "model": cell("model"),
        "batch": cell("batch"),
        "kernels": cell("kernels"),
        "graph ms": cell("graph_ms"),
        "eager ms": cell("eager_ms"),
        "times": cell("speedup"),
        "graphs": cell("graphs"),
        "capture s": cell("capture_s"),
        "GiB": cell("memory_gib"),
    },
    figure=_figure,
    simulated_only=True,
)
