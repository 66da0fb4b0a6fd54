"""Predicted against measured, all of it: rewrites the tables of ``docs/validation.md``.

    python benchmarks/validation.py [--print]

The measurements are those of ``../shared/data`` beside the checkout, or ``$KVSIM_DATA``. With ``--print`` the tables go
to stdout and the page stays.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

from places import DATA, ROOT

from kvsim.cli import main as kvsim
from kvsim.plan.plan import Plan
from kvsim.steptime.curves.tables import Tables, TableStepTime
from kvsim.validate.calibrate.residual_fit import fit_residual
from kvsim.validate.clients.read import read_results
from kvsim.validate.compare_loads import compare_load
from kvsim.validate.compare_points import compare_point, summary_of
from kvsim.validate.compare_run import compare_run, run_accuracy
from kvsim.validate.measured_run import MeasuredRun, read_run
from kvsim.validate.operating_points import read_points
from kvsim.validate.predict_load import load_server
from kvsim.validate.predict_run import METRICS, load_run, predict_run
from kvsim.workload.read import read_trace
from kvsim.workload.workload import Workload

MEASURED = DATA / "measured"
PAGE = ROOT / "docs" / "validation.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"
RUNS = (
    ("RTXPRO6000_Llama-3.1-8B", "sharegpt-llama-3.1-8b-300-sps10.jsonl", "rtx-pro-6000_llama-3.1-8b_tp1_bf16"),
    ("RTXPRO6000_Qwen3-32B", "sharegpt-qwen3-32b-300-sps10.jsonl", "rtx-pro-6000_qwen3-32b_tp2_bf16"),
)
LOAD_SETS = [
    "engine.max_num_seqs=128",
    "engine.enable_prefix_caching=false",
    "model.max_model_len=512",
]
Change = Callable[[Plan], Plan]


def main() -> int:
    if not MEASURED.is_dir():
        sys.stderr.write("no measurements: set KVSIM_DATA\n")
        return 1
    text = "\n".join([*_runs(), *_loads(), *_points()]) + "\n"
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text)
        return 0
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")
    return 0


def _runs() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for folder, trace, fitted in RUNS:
            profile = Path(scratch) / f"{folder}.yaml"
            with redirect_stdout(StringIO()):
                kvsim(["calibrate", "operators", str(MEASURED / folder), "-o", str(profile)])
            found.append((read_run(MEASURED / folder), read_trace(MEASURED / trace, "sharegpt"), profile, Path(fitted)))
        yield "### Runs, request by request\n"
        yield "Errors of the prediction in percent; the last column is the mean over requests of the absolute error.\n"
        yield "| run | step times | metric | mean | p50 | p90 | p95 | p99 | per request |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for run, workload, profile, fitted in found:
            yield from _errors(run, workload, profile, "tables")
            yield from _errors(run, workload, fitted, "fitted")
        yield "\n### The runs' own steps\n"
        yield "Milliseconds of one step by the sequences that decode in it: out of first and last tokens, which are"
        yield "told when a step ends, and as predicted; `mixed` steps also compute whole prompts.\n"
        yield "| run | step times | steps | decodes | number | measured | predicted | error % |"
        yield "|---|---|---|---|---|---|---|---|"
        for run, workload, profile, fitted in found:
            yield from _steps(run, workload, profile, "tables")
            yield from _steps(run, workload, fitted, "fitted")
        yield "\n### After a residual fit on the first half of a run\n"
        yield "Mean errors in percent on the second half; steps take factor x (profile + host time).\n"
        yield "| run | step times | factor | host ms | TTFT | TPOT | E2E |"
        yield "|---|---|---|---|---|---|---|"
        for run, workload, profile, fitted in found:
            yield _residuals(run, workload, profile, "tables")
            yield _residuals(run, workload, fitted, "fitted")
        yield "\n### What each part is worth\n"
        yield "Mean errors in percent of TTFT / TPOT / E2E, tables, with one part taken out.\n"
        yield f"| without | {' | '.join(run.name for run, *_ in found)} |"
        yield "|---|" + "---|" * len(found)
        for name, sets, change in ABLATIONS:
            cells = [_mean_errors(run, workload, profile, sets, change) for run, workload, profile, _ in found]
            yield f"| {name} | {' | '.join(cells)} |"


def _steps(run: MeasuredRun, workload: Workload, profile: Path, kind: str) -> Iterator[str]:
    loaded = _config(run, profile, [])
    for row in compare_run(run, loaded, predict_run(run, workload, loaded)).steps:
        decodes = f"{row.least_decodes} to {row.most_decodes}"
        figures = f"{row.measured_ms:.2f} | {row.predicted_ms:.2f} | {row.error_pct:+.1f}"
        yield f"| {run.name} | {kind} | {row.kind} | {decodes} | {row.steps:,} | {figures} |"


def _residuals(run: MeasuredRun, workload: Workload, profile: Path, kind: str) -> str:
    half = run.num_requests // 2
    found = fit_residual(run, workload, profile, MEASURED / run.name / "model_config.json", half)
    errors = " | ".join(f"{found.held_out_pct[metric]:+.1f}" for metric in ("ttft", "tpot", "e2e"))
    return f"| {run.name} | {kind} | {found.factor:.3f} | {found.host_s * 1e3:.2f} | {errors} |"


def _errors(run: MeasuredRun, workload: Workload, profile: Path, kind: str) -> Iterator[str]:
    errors = run_accuracy(run, predict_run(run, workload, _config(run, profile, [])))
    for metric in METRICS:
        row = errors[metric]
        figures = " | ".join(
            f"{pct:+.1f}" for pct in (row.mean_pct, row.p50_pct, row.p90_pct, row.p95_pct, row.p99_pct)
        )
        yield f"| {run.name} | {kind} | {metric} | {figures} | {row.mape_pct:.1f} |"


def _config(run: MeasuredRun, profile: Path, sets: list[str]):
    return load_run(run, profile, MEASURED / run.name / "model_config.json", sets)


def _mean_errors(run: MeasuredRun, workload: Workload, profile: Path, sets: list[str], change: Change | None) -> str:
    errors = run_accuracy(run, predict_run(run, workload, _config(run, profile, sets), change))
    return " / ".join(f"{errors[metric].mean_pct:+.1f}" for metric in ("ttft", "tpot", "e2e"))


def _tables(change: Callable[[Tables], Tables]) -> Change:
    def changed(plan: Plan) -> Plan:
        steps = plan.step_time
        assert isinstance(steps, TableStepTime)
        sizes = tuple(plan.config.engine.cudagraph_capture_sizes)
        return plan.with_instances(step_time=TableStepTime(change(steps.tables), steps.coefficients, sizes))

    return changed


def _without_allreduce(plan: Plan) -> Plan:
    from kvsim.plan.build_step_time import operators_of, shape_of
    from kvsim.steptime.assemble import assemble

    shape = replace(shape_of(plan.config, plan.spec), allreduce_s=None)
    return _tables(lambda _: assemble(operators_of(plan.config), shape))(plan)


def _mixed_as_alone(tables: Tables) -> Tables:
    return replace(tables, mixed_s=[tables.decode_s] * len(tables.mixed_chunks))


def _no_stragglers(tables: Tables) -> Tables:
    return replace(tables, straggler_s_per_token=0.0, straggler_mixed_s_per_token=0.0)


ABLATIONS: tuple[tuple[str, list[str], Change | None], ...] = (
    ("nothing", [], None),
    ("a limit of KV blocks", ["engine.num_gpu_blocks_override=10000000"], None),
    ("all-reduces", [], _without_allreduce),
    ("the price of decodes beside prefills", [], _tables(_mixed_as_alone)),
    ("stragglers", [], _tables(_no_stragglers)),
    ("prefix caching", ["engine.enable_prefix_caching=false"], None),
    ("a token budget (chunks)", ["engine.max_num_batched_tokens=131072"], None),
    ("asynchronous scheduling", ["engine.async_scheduling=false"], None),
    ("CUDA-graph padding", ["engine.cudagraph_capture_sizes=[]"], None),
    ("host overhead", ["steptime.step_overhead_us=0", "steptime.sequence_overhead_us=0"], None),
)


def _loads() -> Iterator[str]:
    server = load_server(Path("h100_llama-3.1-8b_tp1_bf16"), "llama-3.1-8b", 1, "0.11.0", LOAD_SETS)
    yield "\n### Llama-3.1-8B on one H100, open loop\n"
    yield "| requests/s sent | served | error % | TTFT (ms) | error % | TPOT (ms) | error % | E2E (s) | error % |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for load in read_results(MEASURED / "H100_Llama-3.1-8B_open_loop"):
        errors = compare_load(load, server).error_pct
        assert load.tpot_mean_s is not None
        yield (
            f"| {load.traffic.rate_per_s:.1f} | {load.requests_per_s:.1f} | {errors['requests_per_s']:+.1f} | "
            f"{load.ttft_s['mean'] * 1e3:,.1f} | {errors['ttft_mean']:+.1f} | {load.tpot_mean_s * 1e3:.2f} | "
            f"{errors['tpot_mean']:+.1f} | {load.e2e_s['mean']:.3f} | {errors['e2e_mean']:+.1f} |"
        )


def _points() -> Iterator[str]:
    yield "\n### H100 operating points, closed loop\n"
    yield "| model | in | out | users | TTFT (ms) | predicted | error % | TPOT (ms) | predicted | error % |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    comparisons = []
    for point in read_points(MEASURED / "h100_closed_loop_means.csv"):
        found = compare_point(point)
        comparisons.append(found)
        theirs, ours, error = found.measured_ms, found.predicted_ms, found.error_pct
        cells = [
            f"{getattr(theirs, name):,.1f} | {getattr(ours, name):,.1f} | {getattr(error, name):+.1f}"
            for name in ("ttft", "tpot")
        ]
        model = f"{point.model.split('/')[-1]} {point.weight_dtype} TP{point.tensor_parallel}"
        lengths = f"{point.prompt_tokens} | {point.output_tokens} | {point.concurrency}"
        yield f"| {model}{' (saturated)' if point.saturated else ''} | {lengths} | {' | '.join(cells)} |"
    summary = summary_of(comparisons)
    recognised = sum(found.prediction.saturated == found.point.saturated for found in comparisons)
    yield (
        f"\nMedian absolute error of unsaturated points: TTFT {summary.ttft:.1f}%, TPOT {summary.tpot:.1f}%; of "
        f"saturated ones TPOT {summary.tpot_saturated:.1f}%. Saturation recognised in {recognised} of "
        f"{len(comparisons)} points."
    )


if __name__ == "__main__":
    raise SystemExit(main())
