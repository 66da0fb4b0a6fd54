"""What :func:`kvsim.simulate` gives: the report, frames of what was simulated, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.errors import KvsimError
from kvsim.failures import FailedPart
from kvsim.modes.experiment import Experiment
from kvsim.record.figures import Cost, SystemSummary
from kvsim.record.result import SystemResult
from kvsim.report.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from matplotlib.figure import Figure

    from kvsim.config import Config
    from kvsim.reasons import Reason
    from kvsim.report.models import ModelsReport, WholeCluster
    from kvsim.report.sections import Calibration, Launch, Run, WorkloadFacts
    from kvsim.study.answer import StudyAnswer

SUMMARY_MS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
QUANTILES = ("mean", "p50", "p90", "p95", "p99")


class Simulation:
    """One run: its report section by section, and frames and pictures of what it did.

    Frames are polars' (``.to_pandas()`` makes pandas' of them, with pandas and pyarrow). Where several systems or
    policies were run, a first column ``system`` says whose row it is.
    """

    def __init__(self, report: Report, experiment: Experiment) -> None:
        self.report = report
        """Everything that ``--report-json`` writes, typed."""
        self._experiment = experiment

    @property
    def requests(self) -> pl.DataFrame:
        """A row a completed request: times, tokens, instance, parts of TTFT. See ``kvsim.record.frames``."""
        from kvsim.record.frames import requests_frame

        return self._together(requests_frame)

    @property
    def steps(self) -> pl.DataFrame:
        """A row a span of equal steps of one instance: batch, tokens, KV blocks. Needs ``detail=True``."""
        from kvsim.record.frames import steps_frame

        return self._together(steps_frame)

    @property
    def timeline(self) -> pl.DataFrame:
        """Means over time of the system and of each instance: running, waiting, KV in use, hits. Needs
        ``detail=True``."""
        from kvsim.record.frames import timeline_frame

        return self._together(timeline_frame)

    @property
    def instances(self) -> pl.DataFrame:
        """A row an instance: where it stands, what it served, how it was used. Needs ``detail=True``."""
        from kvsim.record.frames import instances_frame

        return self._together(instances_frame)

    @property
    def transfers(self) -> pl.DataFrame:
        """A row a transfer of KV between instances. Needs ``detail=True``."""
        from kvsim.record.frames import transfers_frame

        return self._together(transfers_frame)

    @property
    def loads(self) -> pl.DataFrame:
        """A row a part of a prompt that was loaded from a tier. Needs ``detail=True``."""
        from kvsim.record.frames import loads_frame

        return self._together(loads_frame)

    @property
    def summary(self) -> pl.DataFrame:
        """A row a system: latencies in milliseconds, rates, hits."""
        import polars as pl

        return pl.DataFrame([summary_row(result) for result in self.report.results], infer_schema_length=None)

    @property
    def plot(self) -> Pictures:
        """Pictures of it, each a matplotlib figure."""
        return Pictures(self.report, self._experiment.results)

    @property
    def systems(self) -> Sequence[SystemResult]:
        """What the simulator itself gave, before it was summarised: arrays, one a request."""
        return self._experiment.results

    @property
    def conclusion(self) -> str:
        """What the run shows, in one or a few sentences that carry their own reservations."""
        return self.report.conclusion

    @property
    def why(self) -> tuple[Reason, ...]:
        """Why it came out so: a sentence each, true by the run's own counters, what explains most first."""
        return self.report.why

    @property
    def run(self) -> Run:
        """How the run went on this machine."""
        return self.report.run

    @property
    def config(self) -> Config:
        """The configuration, resolved and whole; ``config=`` takes it back."""
        return self.report.config

    @property
    def calibration(self) -> Calibration:
        """How the step times are known, and how far they can be trusted."""
        return self.report.calibration

    @property
    def workload(self) -> WorkloadFacts:
        """What was served, and at which load."""
        return self.report.workload

    @property
    def cluster(self) -> object:
        """What was simulated, and what it could serve: a dataclass of :mod:`kvsim.modes.cluster`."""
        return self.report.cluster

    @property
    def results(self) -> tuple[SystemSummary, ...]:
        """The figures of each system, in the order in which they were run."""
        return self.report.results

    @property
    def studies(self) -> Mapping[str, StudyAnswer] | None:
        """By section of the report; ``None``: none were asked."""
        return self.report.studies

    @property
    def launch(self) -> Launch | None:
        """The server's command line as it was understood; ``None``: there was none."""
        return self.report.launch

    @property
    def failures(self) -> tuple[FailedPart, ...]:
        """Parts that could not be made, and cost themselves only."""
        return self.report.run.failures

    def to_json(self) -> str:
        """The report as ``--report-json`` writes it."""
        return self.report.to_json()

    def write_json(self, path: Path | str) -> None:
        """Write :meth:`to_json`, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
        self.report.write_json(path)

    def html(self) -> str:
        """The run as one page with charts, offline, as ``--report-html`` writes it: all of it needs ``detail=True``.

        Raises a ``KvsimError`` where the package with the charts (``pip install 'kvsim[html]'``) is missing.
        """
        from kvsim.page import html_of

        return html_of(self.report, self._experiment.results)

    def write_html(self, path: Path | str) -> None:
        """Write :meth:`html`, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
        from kvsim.page import write_html

        write_html(Path(path), self.report, self._experiment.results)

    def __repr__(self) -> str:
        systems = ", ".join(result.name for result in self.results)
        return f"<kvsim.Simulation mode={self.run.mode} systems=[{systems}] requests={self.workload.requests:,}>"

    def _repr_html_(self) -> str:
        """The conclusion and the summary, for notebooks."""
        return f"<p>{escape(self.conclusion)}</p>{self.summary._repr_html_()}"

    def _together(self, frame_of: Callable[[SystemResult], pl.DataFrame]) -> pl.DataFrame:
        import polars as pl

        frames = [(result.name, frame_of(result)) for result in self._experiment.results]
        if len(frames) == 1:
            return frames[0][1]
        named = (frame.select(pl.lit(name).alias("system"), pl.all()) for name, frame in frames)
        return pl.concat(named, how="diagonal_relaxed")


class ModelsSimulation:
    """One run of several models in one cluster: each model's own, and the whole."""

    def __init__(self, report: ModelsReport, models: Mapping[str, Simulation]) -> None:
        self.report = report
        """Everything that ``--report-json`` writes, typed."""
        self.models = models
        """Each model's run by name; of one that an interrupt left out there is none."""

    @property
    def cluster(self) -> WholeCluster:
        """What there is to say of all models together."""
        return self.report.cluster

    @property
    def conclusion(self) -> str:
        """What each model's run shows, a line each."""
        from kvsim.report.models_text import conclusions

        return "\n".join(conclusions(self.report))

    @property
    def summary(self) -> pl.DataFrame:
        """A row a model and system, as of :attr:`Simulation.summary`, behind a column ``model``."""
        import polars as pl

        rows = [
            {"model": name, **summary_row(told)} for name, own in self.report.models.items() for told in own.results
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_json(self) -> str:
        """The report as ``--report-json`` writes it."""
        return self.report.to_json()

    def write_json(self, path: Path | str) -> None:
        """Write :meth:`to_json`, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
        self.report.write_json(path)

    def __repr__(self) -> str:
        return f"<kvsim.ModelsSimulation models=[{', '.join(self.models)}] status={self.cluster.status}>"


class Pictures:
    """Pictures of one run, each a matplotlib figure of its own: show it in a notebook, or ``savefig`` it."""

    def __init__(self, report: Report, results: Sequence[SystemResult]) -> None:
        self._report, self._results = report, results

    def ttft_cdf(self) -> Figure:
        """How TTFT is distributed, a curve a system."""
        from kvsim.report.plots import ttft_cdf

        return _drawn(ttft_cdf(self._report, self._results))

    def ttft_waterfall(self) -> Figure:
        """What TTFT is made of, in the mean and at p99."""
        from kvsim.report.plots import ttft_waterfall

        return _drawn(ttft_waterfall(self._report))

    def utilisation(self) -> Figure:
        """How busy instances are over time, a panel a system."""
        from kvsim.report.plots import utilisation

        return _drawn(utilisation(self._report, self._results))

    def timeline(self, system: str | None = None) -> Figure:
        """Requests that run and wait, KV in use and hits over time, of ``system`` or the first. Needs
        ``detail=True``."""
        from kvsim.report.timeline_plot import timeline

        names = [result.name for result in self._results]
        if system is not None and system not in names:
            raise KvsimError(f"no system '{system}' was run; there are: {', '.join(names)}")
        return timeline(self._results[0 if system is None else names.index(system)])

    def study(self, name: str) -> Figure:
        """The picture of one of the studies that were made."""
        from kvsim.report.plots import study_painters

        found = study_painters(self._report.studies or {})
        if f"study_{name}.png" not in found:
            made = ", ".join(key.removeprefix("study_").removesuffix(".png") for key in found) or "none"
            raise KvsimError(f"no study '{name}' has a picture; there are: {made}")
        return _drawn(found[f"study_{name}.png"]())


def _drawn(figure: Figure | None) -> Figure:
    if figure is None:
        raise KvsimError("there is nothing to draw: no request was completed")
    return figure


def summary_row(result: SystemSummary) -> dict[str, object]:
    """One system's latencies in milliseconds, rates and hits, by the names of :attr:`Simulation.summary`'s columns."""
    latencies = {
        f"{name.removesuffix('_ms')}_{quantile}_ms": getattr(getattr(result, name), quantile)
        for name in SUMMARY_MS
        for quantile in QUANTILES
    }
    return {
        "system": result.name,
        "completed": result.requests.completed,
        "failed": result.requests.failed,
        **latencies,
        "requests_per_s": result.throughput.requests_per_s,
        "output_tokens_per_s": result.throughput.output_tokens_per_s,
        "goodput_requests_per_s": result.goodput.requests_per_s,
        "goodput_share": result.goodput.share,
        "prefix_hit_rate": result.cache.prefix_hit_rate,
        "preemptions": result.preemptions,
        "overloaded": result.steady.overloaded,
        "steady": result.steady.ok,
        **_cost_columns(result.cost),
    }


def _cost_columns(cost: Cost | None) -> dict[str, float | None]:
    """Money and energy, by the names that a report has; ``None`` where they are not known."""
    energy = None if cost is None else cost.energy
    money = ("gpu_hours", "usd", "usd_per_million_output_tokens", "usd_per_1000_good_requests")
    joules = ("joules_per_output_token", "joules_per_token", "mean_gpu_power_w")
    return {name: getattr(cost, name, None) for name in money} | {name: getattr(energy, name, None) for name in joules}
