import os

import numpy as np
import pytest
from crowding import crowded

from kvsim.failures import Failures
from kvsim.record.result import COLUMNS
from kvsim.report import plots
from kvsim.report.plots import plot_report

NAMES = ["ttft_cdf.png", "ttft_waterfall.png", "utilisation.png"]


@pytest.fixture
def systems(make_result):
    spread = np.linspace(0.05, 3.0, 10)
    return [make_result("unified", {"queue_s": spread}), make_result("pd", {"prefill_s": spread / 2})]


def test_three_pictures(tmp_path, make_report, systems):
    assert plot_report(tmp_path, make_report(*systems), systems, Failures()) == [tmp_path / name for name in NAMES]
    assert sorted(os.listdir(tmp_path)) == NAMES
    for name in NAMES:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_report_gives_the_same_pictures(tmp_path, make_report, systems):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        plot_report(tmp_path / folder, make_report(*systems), systems, Failures())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in NAMES)


def test_curves_and_bars_show_the_figures(make_report, systems):
    from kvsim.report.plots import ttft_cdf, ttft_waterfall, utilisation

    report = make_report(*systems)
    (axis,) = ttft_cdf(report, systems).axes
    assert axis.get_xscale() == "log" and "(ms)" in axis.get_xlabel()
    assert axis.lines[0].get_xdata()[[0, -1]] == pytest.approx([50, 3000])
    assert axis.lines[2].get_xdata()[0] == 2000
    mean, _ = ttft_waterfall(report).axes
    assert [bar.get_width() for bar in mean.containers[0]] == pytest.approx([1525, 0])
    assert [bar.get_width() for bar in mean.containers[1]] == pytest.approx([0, 762.5])
    unified, pd = (axis for axis in utilisation(report, systems).axes)
    assert [axis.get_title(loc="left") for axis in (unified, pd)] == ["unified", "PD"]
    assert pd.get_legend_handles_labels()[1] == ["prefill", "decode", "measured window"]
    assert pd.lines[0].get_ydata() == pytest.approx([50] * 6)
    assert pd.lines[0].get_xdata()[-1] == 10.0


def test_equal_curves_are_one_in_the_legend(make_report, make_result):
    from kvsim.report.plots import ttft_cdf

    spread = np.linspace(0.05, 3.0, 10)
    results = [make_result(name, {"queue_s": spread * scale}) for name, scale in (("a", 1), ("b", 2), ("c", 1))]
    (axis,) = ttft_cdf(make_report(*results), results).axes
    assert axis.get_legend_handles_labels()[1] == ["a, c", "b"]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 123.456, 1e5])
def test_nothing_written_in_a_picture_meets_anything_else(make_report, make_result, scale):
    from kvsim.report.plots import ttft_cdf, ttft_waterfall, utilisation

    spread = np.linspace(0.05, 3.0, 10) * scale
    names = ("baseline", "arc", "session_prefetch", "selective_write", "learned", "hybrid", "belady", "mine:Policy")
    results = [make_result(name, {"queue_s": spread * (1 + at / 7)}) for at, name in enumerate(names)]
    report = make_report(*results)
    for figure in (ttft_cdf(report, results), ttft_waterfall(report), utilisation(report, results)):
        assert crowded(figure) == []


def test_nothing_to_show_is_no_picture(tmp_path, make_report, make_result):
    empty = {name: np.zeros(0) for name in COLUMNS}
    result = make_result("pd", {}, table=empty, measured=np.zeros(0, dtype=bool), roles=())
    assert plot_report(tmp_path, make_report(result), [result], Failures()) == []
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_one_line_a_picture(tmp_path, make_report, systems):
    failures = Failures()
    assert plot_report(tmp_path / "absent", make_report(*systems), systems, failures) == []
    assert [failure.part for failure in failures.found] == NAMES
    assert all("there is no folder" in failure.why and not failure.is_defect for failure in failures.found)


def test_a_picture_that_cannot_be_painted_leaves_the_others(tmp_path, make_report, systems, monkeypatch):
    monkeypatch.setattr(plots, "ttft_waterfall", lambda report: 1 / 0)
    failures = Failures()
    written = plot_report(tmp_path, make_report(*systems), systems, failures)
    assert [path.name for path in written] == sorted(os.listdir(tmp_path)) == [NAMES[0], NAMES[2]]
    assert [(failure.part, failure.is_defect) for failure in failures.found] == [(NAMES[1], True)]
