"""``calibrate``: profiles from measurements."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
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
    from kvsim.validate.calibrate.profile import Profile

calibrate_app = typer.Typer(
    cls=Verbs, help="Make a profile from measurements.", rich_markup_mode=None, add_completion=False
)
METHODS = ("tables", "fitted")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of measured operator times.")]
ProfileOut = Annotated[Path, typer.Option("--output", "-o", metavar="PROFILE", help="The profile to write, YAML.")]
Model = Annotated[str | None, typer.Option(metavar="MODEL", help="A known model, a Hugging Face id, or a config.json.")]
Gpu = Annotated[str | None, typer.Option(metavar="NAME", help="A known GPU.")]
Degree = Annotated[int, typer.Option("--tensor-parallel", metavar="N", parser=count, help="GPUs of an instance.")]
Method = Annotated[
    str,
    typer.Option(metavar="METHOD", help="tables: interpolate what was measured; fitted: a formula of a whole step."),
]
WeightDtype = Annotated[str, typer.Option(metavar="TYPE", help="bf16, fp8, int4, nvfp4, ...")]
KvDtype = Annotated[str, typer.Option(metavar="TYPE", help="bf16 or fp8.")]


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
    profile = tables_profile(measured, output, gpu)
    if method == "tables":
        return _write_tables(output, profile, measured.operators)
    if model is None:
        raise FlagError("--method fitted needs --model: a formula of a whole step counts its layers")
    if "hardware" not in profile.overrides:
        raise FlagError("--method fitted needs --gpu: the folder does not name a known one")
    return _write_fitted(output, profile, measured.operators, _Engine(model, degree))


@calibrate_app.command()
def aiconfigurator(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of tables of one GPU; of several versions the median."),
    ],
    output: ProfileOut,
    model: Annotated[str, typer.Option(metavar="MODEL", help="A known model, a Hugging Face id, or a config.json.")],
    gpu: Annotated[str, typer.Option(metavar="NAME", help="The GPU that the tables are of.")],
    degree: Degree = 1,
    weight_dtype: WeightDtype = "bf16",
    kv_dtype: KvDtype = "bf16",
    method: Method = "fitted",
) -> int:
    """A profile from AIConfigurator's Parquet files of one GPU, a folder an engine version."""
    _check(output, method)
    from kvsim.plan.instance import spec_of
    from kvsim.spec import WEIGHT_BYTES
    from kvsim.validate.calibrate.aiconfigurator import read_folders
    from kvsim.validate.calibrate.measured_kernels import KV_DTYPES
    from kvsim.validate.calibrate.profile import tables_profile

    for flag, dtype, known in (("--weight-dtype", weight_dtype, WEIGHT_BYTES), ("--kv-dtype", kv_dtype, KV_DTYPES)):
        if dtype not in known:
            raise FlagError(f"{flag} is '{dtype}'; known: {', '.join(known)}")
    engine = _Engine(model, degree, {"model.weight_dtype": weight_dtype, "model.kv_dtype": kv_dtype})
    measured = read_folders(folders, spec_of(engine.config({"hardware.gpu": gpu})))
    profile = tables_profile(measured, output)
    if method == "tables":
        return _write_tables(output, profile, measured.operators)
    return _write_fitted(output, profile, measured.operators, engine)


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
    from kvsim.validate.calibrate.residual_fit import fit_residual
    from kvsim.validate.measured_run import read_run
    from kvsim.workload.read import read_workload

    check_file("--output", output, {"the workload": workload}, "profile")
    run = read_run(measured)
    found = fit_residual(run, read_workload(workload, reading.default_format("sharegpt")), profile, model_config, first)
    _write(output, residual_profile(read_overlay(profile), output, found, run.name))
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


def _write_tables(output: Path, profile: Profile, found: Operators) -> int:
    from kvsim.report.atomic import replacing
    from kvsim.steptime.operators import write_operators
    from kvsim.validate.calibrate.profile import operators_file

    with replacing(operators_file(output)) as file:
        write_operators(found, file)
    _write(output, profile)
    rows = len(found.attention) + sum(map(len, found.dense.values())) + sum(map(len, found.per_sequence.values()))
    sys.stdout.write(f"{output}: {rows:,} measured operator times, in {operators_file(output).name} beside it\n")
    return 0


@dataclass(frozen=True)
class _Engine:
    """What a profile of whole steps is of, beside the GPU."""

    model: str
    degree: int
    keys: dict[str, str] = field(default_factory=dict)

    def config(self, keys: dict[str, Any]) -> Config:
        """The configuration of that engine, with further ``keys``."""
        from kvsim.fields import Fields
        from kvsim.plan.instance import load_instance

        return load_instance(
            self.model, Fields("", {"tensor_parallel_size": self.degree}), keys=self.keys | keys
        ).config


def _write_fitted(output: Path, tables: Profile, found: Operators, engine: _Engine) -> int:
    from kvsim.validate.calibrate.profile import fitted_profile

    steptime = tables.overrides["steptime"]
    keys = {f"steptime.{key}": steptime[key] for key in ("step_overhead_us", "sequence_overhead_us")}
    profile = fitted_profile(tables, found, engine.config(keys | {"hardware.gpu": tables.overrides["hardware"]["gpu"]}))
    _write(output, profile)
    what, fit_error = profile.validity or {}, profile.fit_error or {}
    errors = ", ".join(f"{key.split('_')[0]} {value}%" for key, value in fit_error.items() if key != "of")
    instance = f"{what['model']} on {what['tensor_parallel_size']} x {what['gpu']}"
    sys.stdout.write(f"{output}: a formula of {instance}; steps are off the operator times by {errors} in the mean\n")
    return 0


def _write(output: Path, profile: Profile) -> None:
    from kvsim.report.atomic import replacing
    from kvsim.validate.calibrate.profile import written

    with replacing(output) as file:
        file.write(written(profile))
