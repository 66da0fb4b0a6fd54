"""The root command, and the verbs below it."""

from __future__ import annotations

import typer

from kvsim._version import __version__
from kvsim.cli.calibrate import calibrate_app
from kvsim.cli.described import check_flags, command_of
from kvsim.cli.diff import diff
from kvsim.cli.explain import explain
from kvsim.cli.explore import explore
from kvsim.cli.flags import Flags, taking_flags
from kvsim.cli.hits import hits
from kvsim.cli.lab import lab_app
from kvsim.cli.lab_audit import lab_audit
from kvsim.cli.lab_compare import lab_compare
from kvsim.cli.lab_designs import lab_designs
from kvsim.cli.lab_log import lab_log
from kvsim.cli.lab_merge import lab_merge
from kvsim.cli.lab_run import lab_run
from kvsim.cli.lab_schedule import lab_schedule
from kvsim.cli.lab_workload import lab_workload
from kvsim.cli.learn import learn_app
from kvsim.cli.measure import measure
from kvsim.cli.modal import modal
from kvsim.cli.models import models
from kvsim.cli.predict import predict
from kvsim.cli.profiles import profiles
from kvsim.cli.recommend import recommend
from kvsim.cli.serve import PASSES_ON, serve
from kvsim.cli.steps import steps
from kvsim.cli.study import study
from kvsim.cli.sweep import sweep_app
from kvsim.cli.trace import trace_app
from kvsim.cli.usage import FlagError, Verbs, flags_given
from kvsim.cli.validate import validate_app

app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.add_typer(trace_app, name="trace")
app.add_typer(calibrate_app, name="calibrate")
app.add_typer(validate_app, name="validate")
app.add_typer(learn_app, name="learn")
app.add_typer(sweep_app, name="sweep")
lab_app.command("schedule")(lab_schedule)
lab_app.command("workload")(lab_workload)
app.add_typer(lab_app, name="lab")
lab_app.command("audit")(lab_audit)
lab_app.command("designs")(lab_designs)
lab_app.command("run")(lab_run)
lab_app.command("merge")(lab_merge)
lab_app.command("compare")(lab_compare)
lab_app.command("log")(lab_log)
app.command()(diff)
app.command()(explain)
app.command()(explore)
app.command()(hits)
app.command()(measure)
app.command()(modal)
app.command()(models)
app.command()(predict)
app.command()(profiles)
app.command()(recommend)
app.command(context_settings=PASSES_ON)(serve)
app.command()(steps)
app.command()(study)


@app.callback(invoke_without_command=True)
@taking_flags
def root(ctx: typer.Context, flags: Flags) -> int:
    """Simulate an LLM-serving cluster: what TTFT, TPOT, throughput and cache hit rate it would give, and why.

    Start with: kvsim predict "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    """
    if flags.version:
        print(f"kvsim {__version__}")
        return 0
    given = flags_given(ctx)
    if ctx.invoked_subcommand is not None:
        if given:
            raise FlagError(f"{next(iter(given.values()))} does not go with the command '{ctx.invoked_subcommand}'")
        return 0
    check_flags(flags, given)
    from kvsim.cli.run import list_studies, run_command
    from kvsim.report.run_clock import RunClock

    if flags.studies == "list":
        list_studies()
        return 0
    clock = RunClock()
    return run_command(command_of(flags, given), clock)
