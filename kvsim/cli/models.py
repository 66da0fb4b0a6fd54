"""``models``: the models and GPUs that are known by name. No simulation."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut
from kvsim.errors import ConfigError, nearest
from kvsim.units import GB, GIB, KIB, TERA

if TYPE_CHECKING:
    from kvsim.spec import GpuSpec, ModelSpec

COLUMNS = 80
BILLION = 1e9


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A model, a GPU, a part of their names, or a config.json.", show_default=False
        ),
    ] = None,
    json_out: JsonOut = None,
) -> int:
    """Show known models and GPUs, or what is known of one."""
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {} if name is None else {"the model": Path(name)}, "JSON")
    found_models, found_gpus = _all() if name is None else _named(name)
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, _report(found_models, found_gpus))
    lines = _one(found_models, found_gpus) or _tables(found_models, found_gpus)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _all() -> tuple[list[ModelSpec], list[GpuSpec]]:
    from kvsim.spec import GPUS, MODELS

    return list(MODELS.values()), list(GPUS.values())


def _named(name: str) -> tuple[list[ModelSpec], list[GpuSpec]]:
    """The model of that name, else the models and GPUs that have it in theirs; ``ConfigError`` where none has."""
    from kvsim.spec import GPUS, find_model, known_gpu, known_model, model_file

    if known_model(name) is not None or model_file(name) is not None:
        return [find_model(name)], []
    every_model, every_gpu = _all()
    part, gpu = name.lower(), known_gpu(name)
    models_with = [model for model in every_model if any(part in each.lower() for each in (model.name, *_ids(model)))]
    gpus_with = [each for each in every_gpu if part in each.name] if name not in GPUS else [GPUS[name]]
    if not gpus_with and gpu is not None:
        gpus_with = [GPUS[gpu]]
    if not models_with and not gpus_with:
        known = nearest(part, [*(model.name for model in every_model), *GPUS])
        hint = known if known.startswith("did") else "without a name all are shown"
        raise ConfigError(f"unknown model or GPU '{name}'; {hint}")
    return models_with, gpus_with


def _ids(model: ModelSpec) -> list[str]:
    """All that a known model answers to; a file's own name is its only one."""
    from kvsim.spec.catalogue import entries

    entry = entries().get(model.name)
    if entry is None:
        return [model.hf_id]
    return [*entry.ids, *(hf_id for variant in entry.variants for hf_id in variant.ids)]


def _tables(found_models: list[ModelSpec], found_gpus: list[GpuSpec]) -> Iterable[str]:
    if found_models:
        yield f"{'model':<30} {'params':>8} {'active':>8} {'KV/token':>9} {'weights':>10} {'longest':>10}"
    for model in found_models:
        active = f"{model.active_params / BILLION:.1f}e9" if model.is_moe else "-"
        kv = f"{model.kv_bytes_per_token('bf16') / KIB:,.4g} KiB"
        yield (
            f"{model.name:<30} {model.params / BILLION:>6.4g}e9 {active:>8} {kv:>9} {_stored(model):>10} "
            f"{model.max_position_embeddings:>10,}"
        )
    if found_models:
        yield "KV of a token in 16 bits over all layers; ids and more of one: models NAME"
    if found_models and found_gpus:
        yield ""
    if found_gpus:
        yield f"{'GPU':<16} {'memory':>10} {'GB/s':>6} {'bf16':>6} {'fp8':>6} {'link':>5} {'SMs':>4} CUDA"
    for gpu in found_gpus:
        fp8 = f"{gpu.fp8_flops / TERA:,.0f}" if gpu.fp8_flops != gpu.bf16_flops else "-"
        yield (
            f"{gpu.name:<16} {gpu.usable_memory_bytes / GIB:>6.1f} GiB "
            f"{gpu.hbm_bytes_per_s / GB:>6,.0f} {gpu.bf16_flops / TERA:>6,.0f} {fp8:>6} "
            f"{gpu.interconnect_bytes_per_s / GB:>5,.0f} {gpu.num_sms:>4} {_capability(gpu)}"
        )
    if found_gpus:
        yield "Memory as CUDA or ROCm gives it; dense TFLOP/s; link: GB/s one way"


def _one(found_models: list[ModelSpec], found_gpus: list[GpuSpec]) -> list[str]:
    """What is known of the only one found; empty where there are more."""
    if len(found_models) + len(found_gpus) != 1:
        return []
    figures = _model_figures(found_models[0]) if found_models else _gpu_figures(found_gpus[0])
    width = max(map(len, figures))
    lines = []
    for key, value in figures.items():
        text = ", ".join(value) if isinstance(value, list) else value
        first, *rest = textwrap.wrap(text, COLUMNS - width - 2, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{key:<{width}}  {first}", *(" " * (width + 2) + line for line in rest)]
    return lines


def _model_figures(model: ModelSpec) -> dict[str, str | list[str]]:
    weight_bytes = model.expert_bytes(model.weight_dtype) + model.other_bytes(model.weight_dtype) + model.extra_bytes
    figures: dict[str, str | list[str]] = {
        "model": model.name,
        "ids": _ids(model),
        "parameters": f"{model.params / BILLION:,.4g}e9"
        + (f", {model.active_params / BILLION:,.4g}e9 of them a token's" if model.is_moe else ""),
        "weights": f"{_stored(model)}, {weight_bytes / GB:,.1f} GB",
        "layers": _layers(model),
        "KV of a token": f"{model.kv_bytes_per_token('bf16'):,.0f} bytes in 16 bits",
        "longest": f"{model.max_position_embeddings:,} tokens",
    }
    return figures | {key: value for key, value in (("note", model.note), ("source", _source(model))) if value}


def _layers(model: ModelSpec) -> str:
    heads = "latent attention" if model.is_mla else f"{model.num_kv_heads} KV heads of {model.head_dim}"
    words = [f"{model.num_layers}, {model.num_heads} heads, {heads}"]
    if model.num_kv_layers:
        words.append(f"{model.num_kv_layers} with attention")
    if model.sliding_window_tokens is not None:
        kind = "chunks" if model.window_is_chunk else "a window"
        words.append(f"{model.num_window_layers} with {kind} of {model.sliding_window_tokens:,} tokens")
    if model.is_moe:
        words.append(f"{model.experts_per_token} of {model.num_experts} experts a token")
    if model.num_dense_layers:
        words.append(f"{model.num_dense_layers} without experts")
    return "; ".join(words)


def _gpu_figures(gpu: GpuSpec) -> dict[str, str | list[str]]:
    link = "NVLink or its like" if gpu.has_nvlink else "PCIe"
    return {
        "GPU": gpu.name,
        "memory": f"{gpu.usable_memory_bytes / GIB:.2f} GiB, as CUDA or ROCm gives it to processes",
        "bandwidth": f"{gpu.hbm_bytes_per_s / GB:,.0f} GB/s",
        "dense TFLOP/s": f"{gpu.bf16_flops / TERA:,.0f} in bf16, {gpu.fp8_flops / TERA:,.0f} in fp8",
        "link": f"{gpu.interconnect_bytes_per_s / GB:,.0f} GB/s one way, {link}",
        "multiprocessors": str(gpu.num_sms),
        "compute capability": _capability(gpu),
    }


def _stored(model: ModelSpec) -> str:
    experts = model.expert_weight_dtype
    return model.weight_dtype if experts is None else f"{model.weight_dtype}+{experts}"


def _source(model: ModelSpec) -> str:
    from kvsim.spec.catalogue import entries

    entry = entries().get(model.name)
    return "" if entry is None else entry.source


def _capability(gpu: GpuSpec) -> str:
    major, minor = gpu.capability
    return f"{major}.{minor}" if major else "-"


def _report(found_models: list[ModelSpec], found_gpus: list[GpuSpec]) -> Mapping[str, Any]:
    from dataclasses import asdict

    return {
        "models": {
            model.name: asdict(model)
            | {
                "ids": _ids(model),
                "active_params": model.active_params,
                "kv_bytes_per_token_bf16": model.kv_bytes_per_token("bf16"),
                "source": _source(model),
            }
            for model in found_models
        },
        "gpus": {gpu.name: asdict(gpu) for gpu in found_gpus},
    }
