"""What all studies that stand alone have in common: names, files, configuration."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from places import REPOSITORY

from kvsim.errors import ConfigError
from kvsim.experiments.files import flat
from kvsim.experiments.finding import Finding, find_out, own_configuration
from kvsim.experiments.registry import RUN_ALL, find, names
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.modes.variants import Layers
from kvsim.plan.mode import SINGLE
from kvsim.record.plain import spliced
from kvsim.sim.executor import Serial
from kvsim.study.intervals import Interval
from kvsim.workload.traffic import TraceSource


def test_every_study_has_its_file_and_its_question() -> None:
    files = {path.stem: path.read_text("utf-8") for path in (REPOSITORY / "experiments").glob("*.py")}
    assert set(files) == {*names(), RUN_ALL}
    for name in names():
        study = find(name)
        assert study.name == name
        assert files[name].startswith(f'"""{study.question}"""\n') and f'main(["study", "{name}"' in files[name]


def test_an_unknown_study_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no study 'eic'; "):
        find("eic")


def test_what_a_study_sets_gives_way_to_what_somebody_chose() -> None:
    study = find("network_variance")
    assert own_configuration(study, Layers()).config.cluster.network.jitter_cv == 0.3
    chosen = own_configuration(study, Layers({"cluster": {"network": {"jitter_cv": 0.1}}}, preset="smoke"))
    assert chosen.config.cluster.network.jitter_cv == 0.1
    assert chosen.config.cluster.network.tail_jitter_prob == 0.01
    assert chosen.config.studies.most_replications == 8
    assert own_configuration(study, Layers()).config.studies.most_replications == 30


def test_a_study_with_requests_of_its_own_takes_no_others() -> None:
    with pytest.raises(ConfigError, match="draws its own requests"):
        find_out(find("prefix_caching"), Layers(), TraceSource("trace.csv"), Serial())


@dataclass(frozen=True)
class Row:
    name: str
    figures: Interval = field(metadata=spliced())
    counts: tuple[int, int]
    apart: Interval


def test_a_csv_has_a_line_a_row_and_a_column_a_figure() -> None:
    row = Row("a", Interval(1.5, 0.25), (1, 3), Interval(2.0, float("inf")))
    study: StandaloneStudy[object] = StandaloneStudy(  # type: ignore[type-var]
        mode=SINGLE,
        ask=None,
        sentence=None,
        tables=None,
        figure=None,
        rows=lambda _: [row],  # type: ignore[arg-type]
    )
    (line,) = csv.DictReader(io.StringIO(Finding(study, None, None).as_csv()))  # type: ignore[arg-type]
    assert line == {
        "name": "a",
        "mean": "1.5",
        "half_width": "0.25",
        "counts": "1 3",
        "apart.mean": "2.0",
        "apart.half_width": "",
    }


def test_a_conclusion_says_where_it_holds(found_by: Callable[..., Finding]) -> None:
    sets = ("studies.replications=2", "studies.most_replications=2", "studies.eic_gb_per_rack=[0,1000]")
    found = found_by("eic_sizing", *sets, "studies.max_requests=100")
    assert found.sentence.endswith(
        " [llama-3.1-70b bf16 on 4 x h100-sxm, on all 4 instances, 2 runs of each, driven at 0.4 of the maximum rate, "
        "95% intervals]"
    )
    told = found.as_json()
    assert told["study"] == "eic_sizing" and told["conclusion"] == found.sentence and told["seed"] == 42
    assert len(found.as_csv().splitlines()) == 1 + len(found.answer.rows) == 5


def test_a_ratio_is_written_as_everybody_writes_it() -> None:
    row = {"ratio": [1, 3], "names": ["dram", "ssd"], "unified": {"pd_ratio": [2, 2]}}
    assert dict(flat(row)) == {"ratio": "1:3", "names": "dram ssd", "unified.pd_ratio": "2:2"}
