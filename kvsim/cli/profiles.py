"""``profiles``: which step times were measured, how far they hold, and what is known of a model. No simulation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut

if TYPE_CHECKING:
    from kvsim.plan.levels import Known
    from kvsim.plan.measured_profiles import MeasuredProfile
    from kvsim.plan.scaling_error import ScalingError

LETTERS = {"degree": "d", "KV type": "k", "KV size": "k", "weight type": "w", "GPU": "g", "model": "m"}


def profiles(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A model's name, id or config.json.", show_default=False)
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Only this GPU; default: all.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Show measured step times, and how a model is known.

    Without MODEL the measured instances, their validity and error; of MODEL, how it is known on each GPU.
    """
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {} if model is None else {"the model": Path(model)}, "JSON")
    from kvsim.plan.levels import scaling_errors
    from kvsim.plan.measured_profiles import measured_profiles

    levels, measured = _levels(model, gpu), measured_profiles()
    errors = scaling_errors() if model is None or json_out is not None else {}
    if json_out is not None:
        from kvsim.record.plain import plain
        from kvsim.report.json_report import write_json

        told = {"profiles": [_facts(one) for one in measured], "scaling_error": errors, "levels": levels}
        write_json(json_out, plain(told))
    lines = _table(levels) if model is not None else [*_profiles(measured), "", *_errors(errors)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _levels(model: str | None, gpu: str | None) -> list[Known]:
    from kvsim.plan.levels import known_levels
    from kvsim.spec import GPUS, find_gpu, find_model

    if model is None:
        if gpu is not None:
            from kvsim.cli.usage import FlagError

            raise FlagError("--gpu needs a MODEL")
        return []
    return list(known_levels(find_model(model), tuple(GPUS) if gpu is None else (find_gpu(gpu).name,)))


def _facts(profile: MeasuredProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "model": profile.model.name,
        "gpu": profile.gpu.name,
        "tensor_parallel_size": profile.tensor_parallel,
        "weight_dtype": profile.weight_dtype,
        "kv_dtype": profile.kv_dtype,
        **{key: value for key, value in profile.facts.items() if key != "name"},
    }


def _profiles(measured: tuple[MeasuredProfile, ...]) -> Iterator[str]:
    yield "Measured step times; error of decode, prefill and mixed steps in percent"
    yield ""
    yield f"{'model':<17}{'GPUs':<19}{'weights':<9}{'decode':>7}{'prefill':>9}{'mixed':>7}  {'tokens':>6}"
    for one in measured:
        error, validity = one.facts.get("fit_error"), one.facts.get("validity")
        shown = [_figure(error, f"{kind}_steps_mape_pct") for kind in ("decode", "prefill", "mixed")]
        most = validity.get("tokens_per_step", ["", ""])[1] if isinstance(validity, dict) else ""
        gpus = f"{one.tensor_parallel} x {one.gpu.name}"
        yield (
            f"{one.model.name:<17}{gpus:<19}{one.weight_dtype:<9}{shown[0]:>7}{shown[1]:>9}{shown[2]:>7}  {most:>6,}"
        )
    yield ""
    yield "tokens: of a step, the most that was measured. --calibration-profile takes"
    yield "a name of GPU, model, degree and weights, as h100_llama-3.1-8b_tp1_bf16;"
    yield "--json lists them all. kvsim profiles MODEL: how it is known."


def _figure(error: object, key: str) -> str:
    value = error.get(key) if isinstance(error, Mapping) else None
    return f"{value:.1f}" if isinstance(value, int | float) else "?"


def _errors(errors: Mapping[str, ScalingError | None]) -> Iterator[str]:
    yield "What was not measured is scaled from the nearest that was: measured instances,"
    yield "scaled to each other, are off by so many percent (median, worst)"
    yield ""
    yield f"{'':<24}{'pairs':>6}{'decode':>16}{'prefill':>16}"
    for name, error in errors.items():
        if error is None:
            yield f"{name:<24}{0:>6}{'not known':>16}{'not known':>16}"
            continue
        decode = f"{error.decode_pct:.0f}, {error.decode_worst_pct:.0f}"
        prefill = f"{error.prefill_pct:.0f}, {error.prefill_worst_pct:.0f}"
        yield f"{name:<24}{error.instances:>6}{decode:>16}{prefill:>16}"


def _table(levels: list[Known]) -> Iterator[str]:
    yield f"{levels[0].model}: how step times are known, by GPUs an instance"
    yield ""
    degrees = sorted({one.tensor_parallel_size for one in levels})
    yield f"{'GPU':<16}{'weights':<9}" + "".join(f"{degree:>12}" for degree in degrees)
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for one in levels:
        rows.setdefault((one.gpu, one.weight_dtype), {})[one.tensor_parallel_size] = _mark(one)
    for (gpu, dtype), row in rows.items():
        yield f"{gpu:<16}{dtype:<9}" + "".join(f"{row[degree]:>12}" for degree in degrees)
    yield ""
    yield "scaled: from the nearest measured instance, by specifications, which has"
    yield "another degree (d), KV (k), weight type (w), GPU (g), model (m); roofline:"
    yield "data-sheet arithmetic; -: the weights leave no room for KV."


def _mark(known: Known) -> str:
    if known.level == "unfit":
        return "-"
    return " ".join([known.level, "".join(LETTERS[name] for name in known.differences)]).strip()
