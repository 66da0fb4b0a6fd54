"""``calibrate``: profiles from measurements."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import count, reads_traces
from kvsim.cli.outputs import check_file
from kvsim.cli.usage import FlagError, Verbs
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.config import Config
    from kvsim.steptime.operators import Operators

calibrate_app = typer.Typer(
    cls=Verbs, help="Make a profile from measurements.", rich_markup_mode=None, add_completion=False
)
METHODS = ("tables", "fitted")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of measured operator times.")]
ProfileOut = Annotated[Path, typer.Option("--output", "-o", metavar="PROFILE", help="The profile to write, YAML.")]
Model = Annotated[str | None, typer.Option(help="A known model, a Hugging Face id, or a config.json.")]
Gpu = Annotated[str | None, typer.Option(help="A known GPU.")]
Degree = Annotated[int, typer.Option("--tensor-parallel", parser=count, help="GPUs of an instance.")]
Method = Annotated[str, typer.Option(help="tables: interpolate what was measured; fitted: a formula of a whole step.")]
Dtype = Annotated[str, typer.Option(help="bf16 or fp8.")]


@calibrate_app.callback(invoke_without_command=True)
def calibrate(ctx: typer.Context) -> None:
    """Make a profile from measurements."""
    if ctx.invoked_subcommand is None:
        raise FlagError("calibrate: a command is missing; known: aiconfigurator, operators, requests")


@calibrate_app.command()
def operators(
    folder: Folder,
    output: ProfileOut,
    method: Method = "tables",
    model: Model = None,
    gpu: Gpu = None,
    degree: Degree = 1,
) -> int:
    """A profile from *dense.csv, *attention.csv, *per_sequence.csv and, where present, *moe.csv, *skew.csv, *meta.yaml.

    Tables hold for any number of layers; a fitted profile needs --model, and --gpu where the folder does not name it.
    """
    _check(output, method)
    from kvsim.validate.calibrate.operators import read_folder
    from kvsim.validate.calibrate.profile import tables_profile

    measured = read_folder(folder)
    tree = tables_profile(measured, output)
    if gpu is not None:
        tree["overrides"]["hardware"] = {"gpu": gpu}
    if method == "tables":
        return _write_tables(output, tree, measured.operators)
    if model is None:
        raise FlagError("--method fitted needs --model: a formula of a whole step counts its layers")
    if "hardware" not in tree["overrides"]:
        raise FlagError("--method fitted needs --gpu: the folder does not name a known one")
    tree["overrides"]["engine"] = {"tensor_parallel_size": degree}
    return _write_fitted(output, tree, measured.operators, {"name": model})


@calibrate_app.command()
def aiconfigurator(
    folder: Folder,
    output: ProfileOut,
    model: Annotated[str, typer.Option(help="A known model, a Hugging Face id, or a config.json.")],
    gpu: Annotated[str, typer.Option(help="The GPU that the tables are of.")],
    degree: Degree = 1,
    weight_dtype: Dtype = "bf16",
    kv_dtype: Dtype = "bf16",
    method: Method = "fitted",
) -> int:
    """A profile from AIConfigurator's Parquet files of one GPU and engine version."""
    _check(output, method)
    from kvsim.spec import find_gpu, find_model
    from kvsim.validate.calibrate.aiconfigurator import Deployment, read_tables, table_files
    from kvsim.validate.calibrate.operators import Measured
    from kvsim.validate.calibrate.profile import tables_profile

    deployment = Deployment(find_model(model), find_gpu(gpu), degree, weight_dtype, kv_dtype)
    found = read_tables(folder, deployment)
    measured = Measured(found, {"gpu": gpu, "model": model}, table_files(folder, deployment))
    tree = tables_profile(measured, output)
    tree["sources"]["licence"] = "AIConfigurator, Apache-2.0"
    tree["provenance"]["method"] = "kernels measured one by one; memory-bound passes by arithmetic"
    if method == "tables":
        return _write_tables(output, tree, found)
    tree["overrides"]["engine"] = {"tensor_parallel_size": degree}
    return _write_fitted(output, tree, found, {"name": model, "weight_dtype": weight_dtype, "kv_dtype": kv_dtype})


@calibrate_app.command()
@reads_traces
def requests(
    output: ProfileOut,
    measured: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run: meta.json, requests.jsonl.")],
    workload: Annotated[Path, typer.Option(metavar="FILE", help="The requests that were sent, with token ids.")],
    profile: Annotated[Path, typer.Option(metavar="PROFILE", help="What to start from: a file, or a shipped one.")],
    model_config: Annotated[Path | None, typer.Option(metavar="FILE", help="The model's config.json.")] = None,
    first: Annotated[
        int | None, typer.Option(parser=count, metavar="N", help="Fit on so many requests; the others judge.")
    ] = None,
    *,
    reading: Reading,
) -> int:
    """A profile brought to a measured run: one factor on every step, and the host's time of it."""
    from kvsim.config.overlay import read_overlay
    from kvsim.validate.calibrate.profile import residual_profile
    from kvsim.validate.residual import fit_residual, residual_sets
    from kvsim.validate.run import read_run
    from kvsim.workload.read import read_workload

    check_file("--output", output, {"the workload": workload}, "profile")
    run = read_run(measured)
    found = fit_residual(run, read_workload(workload, reading.default_format("sharegpt")), profile, model_config, first)
    sets = residual_sets(profile, found.factor, found.host_s)
    errors = {"fitted_on_first": found.fitted_on, "mean_error_pct": found.errors_pct}
    errors |= {"held_out_mean_error_pct": found.held_out_pct} if found.held_out_pct else {}
    _write(output, residual_profile(read_overlay(profile), output, sets, run.name, errors))
    words = ", ".join(f"{name.upper()} {value:+.1f}%" for name, value in found.errors_pct.items())
    sys.stdout.write(f"{output}: steps take {found.factor:.3f} x (profile + {found.host_s * 1e3:.2f} ms); mean errors ")
    sys.stdout.write(f"on the {found.fitted_on} requests of the fit: {words}\n")
    if found.held_out_pct:
        words = ", ".join(f"{name.upper()} {value:+.1f}%" for name, value in found.held_out_pct.items())
        sys.stdout.write(f"on the others: {words}\n")
    return 0


def _check(output: Path, method: str) -> None:
    from kvsim.report.atomic import ensure_writable
    from kvsim.validate.calibrate.profile import operators_file

    if method not in METHODS:
        raise FlagError(f"--method is '{method}'; known: {', '.join(METHODS)}")
    check_file("--output", output, {}, "profile")
    if method == "tables":
        ensure_writable(operators_file(output))


def _write_tables(output: Path, tree: dict[str, Any], found: Operators) -> int:
    from kvsim.report.atomic import replacing
    from kvsim.steptime.operators import write_operators
    from kvsim.validate.calibrate.profile import operators_file

    with replacing(operators_file(output)) as file:
        write_operators(found, file)
    _write(output, tree)
    rows = len(found.attention) + sum(map(len, found.dense.values())) + sum(map(len, found.per_sequence.values()))
    sys.stdout.write(f"{output}: {rows:,} measured operator times, in {operators_file(output).name} beside it\n")
    return 0


def _write_fitted(output: Path, tree: dict[str, Any], found: Operators, model: dict[str, str]) -> int:
    """A profile of whole steps: of the model that is named, at the degree that ``tree`` has."""
    from kvsim.plan.build_step_time import shape_of
    from kvsim.plan.instance import spec_of
    from kvsim.plan.plausible import implausible
    from kvsim.steptime import AffineStepTime
    from kvsim.steptime.assemble import assemble
    from kvsim.steptime.fit import fitted
    from kvsim.validate.calibrate.profile import fit_error_of, fitted_steptime, identity

    config = _config(tree, model)
    spec = spec_of(config)
    tables = assemble(found, shape_of(config, spec))
    coefficients = fitted(tables)
    wrong = implausible(AffineStepTime(coefficients), spec)
    if wrong is not None:
        raise FlagError(f"{output.name} is not written: {wrong}")
    tree["validity"] |= identity(spec)
    tree["description"] = f"Whole steps of {spec.model.name} on {spec.tensor_parallel} x {spec.gpu.name}: a formula."
    tree["fit_error"] = fit_error_of(tables, coefficients)
    del tree["overrides"]["engine"]
    tree["overrides"]["steptime"] = fitted_steptime(coefficients)
    _write(output, tree)
    errors = ", ".join(f"{key.split('_')[0]} {value}%" for key, value in tree["fit_error"].items() if key != "of")
    sys.stdout.write(f"{output}: a formula of {spec.model.name} on {spec.tensor_parallel} x {spec.gpu.name}; ")
    sys.stdout.write(f"steps are off the operator times by {errors} in the mean\n")
    return 0


def _config(tree: dict[str, Any], model: dict[str, str]) -> Config:
    import json

    from kvsim.config import load_config

    steptime = tree["overrides"]["steptime"]
    sets = {
        "hardware.gpu": tree["overrides"]["hardware"]["gpu"],
        "engine.tensor_parallel_size": tree["overrides"]["engine"]["tensor_parallel_size"],
        "steptime.step_overhead_us": steptime["step_overhead_us"],
        "steptime.sequence_overhead_us": steptime["sequence_overhead_us"],
    } | {f"model.{key}": value for key, value in model.items()}
    return load_config(sets=[f"{key}={json.dumps(value)}" for key, value in sets.items()], mode="instance").config


def _write(output: Path, tree: dict[str, Any]) -> None:
    import yaml

    from kvsim.report.atomic import replacing

    with replacing(output) as file:
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=118, default_flow_style=None)
        file.write(text.encode("utf-8"))
