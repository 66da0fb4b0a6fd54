import csv
import dataclasses
import os

import numpy as np
import pytest

from kvsim.errors import KvsimError
from kvsim.record.result import COLUMNS, COMPONENTS
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.report import csv_report
from kvsim.report.csv_report import write_csv


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_and_digit_survives(tmp_path, make_result):
    rng = np.random.default_rng(1)
    results = [make_result(name, {c: rng.random(10) * 1e-3 for c in COMPONENTS}, 0.0123) for name in ("unified", "pd")]
    write_csv(tmp_path / "requests.csv", results)
    rows = read(tmp_path / "requests.csv")
    assert list(rows[0]) == ["system", *COLUMNS, "ttft_s", "tpot_s", "e2e_s", "measured"]
    assert [row["system"] for row in rows] == ["unified"] * 10 + ["pd"] * 10
    for result, part in zip(results, (rows[:10], rows[10:]), strict=True):
        for name in COLUMNS:
            assert [float(row[name]) for row in part] == result.table[name].tolist()
        for name, derived in (("ttft_s", ttft_s), ("tpot_s", tpot_s), ("e2e_s", e2e_s)):
            assert [float(row[name]) for row in part] == derived(result.table).tolist()
    assert os.listdir(tmp_path) == ["requests.csv"]


def test_attribution_columns_sum_to_ttft(tmp_path, make_result):
    write_csv(tmp_path / "r.csv", [make_result("pd", {c: 0.1 * k for k, c in enumerate(COMPONENTS)})])
    for row in read(tmp_path / "r.csv"):
        assert sum(float(row[c]) for c in COMPONENTS) == pytest.approx(float(row["ttft_s"]), abs=1e-9)


def test_counts_are_whole_and_missing_tpot_is_empty(tmp_path, make_result):
    result = make_result("pd", {"queue_s": 0.5})
    result.table["output_tokens"][3] = 1
    result.table["transferred_bytes"][3] = 2.5
    result = dataclasses.replace(result, measured=np.arange(10) != 3)
    write_csv(tmp_path / "r.csv", [result])
    row = read(tmp_path / "r.csv")[3]
    assert (row["request_id"], row["prompt_tokens"], row["output_tokens"]) == ("3", "2000", "1")
    assert (row["tpot_s"], row["transferred_bytes"], row["measured"]) == ("", "2.5", "false")


def test_slices_join_without_a_seam(tmp_path, make_result, monkeypatch):
    result = make_result("pd", {"queue_s": np.arange(10) * 0.1})
    write_csv(tmp_path / "whole.csv", [result])
    monkeypatch.setattr(csv_report, "_SLICE_ROWS", 3)
    write_csv(tmp_path / "slices.csv", [result])
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "slices.csv").read_bytes()


def test_no_requests_is_a_header_alone(tmp_path, make_result):
    empty = {name: np.zeros(0) for name in COLUMNS}
    write_csv(tmp_path / "r.csv", [make_result("pd", {}, table=empty, measured=np.zeros(0, dtype=bool))])
    assert (tmp_path / "r.csv").read_text().startswith("system,request_id,arrival_s,")
    assert read(tmp_path / "r.csv") == []


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, make_result):
    broken = make_result("pd", {})
    del broken.table["queue_s"]
    with pytest.raises(KeyError):
        write_csv(tmp_path / "r.csv", [make_result("unified", {}), broken])
    assert os.listdir(tmp_path) == []


def test_an_unwritable_path_is_one_line(tmp_path, make_result):
    with pytest.raises(KvsimError, match="it is a folder"):
        write_csv(tmp_path, [make_result("pd", {})])
