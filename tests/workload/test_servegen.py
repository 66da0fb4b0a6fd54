"""ServeGen: the folder of its clients, and the file that its generator writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.read import read_trace
from kvsim.workload.words import word_of

TRACE = "0,4.0,1.2,Gamma,0.7,1.0\n600,1.0,1.0,Weibull,1.0,1.0\n1200,,,,,\n"


def folder(path: Path, **files: str) -> Path:
    data = {"0": {"input_tokens": "{100: 0.5, 300: 0.5}", "output_tokens": "{10: 1.0}"}}
    data["600"] = {"input_tokens": "{7: 2.0}", "output_tokens": "{3: 1}"}
    named = {"chunk-1-trace.csv": TRACE, "chunk-1-dataset.json": json.dumps(data)}
    named["chunk-10-trace.csv"] = "0,12.0,1.0,Gamma,1.0,1.0\n600,3.0,1.0,Gamma,4.0,1.0\n"
    named["chunk-10-dataset.json"] = json.dumps({"0": {"input_tokens": "{50: 1.0}", "output_tokens": "{20: 1.0}"}})
    for name, text in {**named, **files}.items():
        (path / name).write_text(text)
    return path


def test_clients_share_the_rate_as_they_do(tmp_path) -> None:
    word = word_of(str(folder(tmp_path)))
    found = word.generate(6000, 8.0, 1)
    early = found.arrival_s < 600
    assert len(found) == 6000 and found.mean_rate_per_s == pytest.approx(8.0, rel=0.02)
    assert early.sum() == pytest.approx(4800, abs=2)
    assert np.mean(found.prompt_tokens[early] == 50) == pytest.approx(12 / 16, abs=0.001)
    own = found.prompt_tokens[early & (found.prompt_tokens != 50)]
    assert set(own.tolist()) == {100, 300} and np.mean(own == 100) == pytest.approx(0.5, abs=0.05)
    # Clients whose lengths are not said anew keep them; the other one's are.
    assert set(found.prompt_tokens[~early].tolist()) == {7, 50}
    again = word_of(str(tmp_path)).generate(6000, 8.0, 1)
    assert np.array_equal(found.arrival_s, again.arrival_s) and "2 clients of ServeGen" in found.info.notes[0]


def test_gaps_have_the_shape_of_the_window(tmp_path) -> None:
    bursty = "0,4.0,2.0,Gamma,0.25,1.0\n"
    word = word_of(str(folder(tmp_path, **{"chunk-1-trace.csv": bursty, "chunk-10-trace.csv": "0,0.0,1,Gamma,1,1\n"})))
    gaps = np.diff(word.generate(4000, 10.0, 2).arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.1)


def test_windows_begin_again(tmp_path) -> None:
    assert len(word_of(str(folder(tmp_path))).generate(20_000, 4.0, 1)) == 20_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"chunk-1-trace.csv": "0,1,1,Gamma,1\n"}, "chunk-1-trace.csv:1: 5 columns; allowed: time,rate,cv"),
        ({"chunk-1-trace.csv": "0,1,1,Poisson,1,1\n"}, ":1: pattern is 'Poisson'; allowed: Gamma, Weibull"),
        ({"chunk-1-trace.csv": "\n0,x,1,Gamma,1,1\n"}, ":2: rate is 'x'; allowed: a finite number >= 0"),
        ({"chunk-1-trace.csv": "0,1,1,Gamma,0,1\n"}, "parameter is 0; allowed: a number > 0"),
        ({"chunk-1-dataset.json": "{"}, "chunk-1-dataset.json: not JSON"),
        ({"chunk-1-dataset.json": "[]"}, "a list; allowed: lengths by the time"),
        (
            {"chunk-1-dataset.json": '{"0": {"input_tokens": "{1: 1}"}}'},
            "a distribution of each of input_tokens, output_",
        ),
        (
            {"chunk-1-dataset.json": '{"0": {"input_tokens": "{-1: 1}", "output_tokens": "{1: 1}"}}'},
            "0: input_tokens; allo",
        ),
        ({"chunk-2-trace.csv": TRACE}, "chunk-2-dataset.json: no such file"),
    ],
)
def test_wrong_clients_are_one_line(tmp_path, files, message: str) -> None:
    with pytest.raises(WorkloadError) as wrong:
        word_of(str(folder(tmp_path, **files))).generate(5, 1.0, 1)
    assert message in str(wrong.value) and "\n" not in str(wrong.value)


def test_nobody_who_sends_is_one_line(tmp_path) -> None:
    path = folder(tmp_path, **{"chunk-1-trace.csv": "0,,,,,\n", "chunk-10-trace.csv": "0,0,1,Gamma,1,1\n"})
    with pytest.raises(WorkloadError, match="no client has a rate above 0"):
        word_of(str(path)).generate(5, 1.0, 1)


def test_the_generator_s_file_is_read(text_file) -> None:
    """As ``save_requests_to_csv`` writes it."""
    path = text_file("r.csv", "request_id,timestamp,input_tokens,output_tokens\n0,0.5,10,20\n1,1.25,15,25\n")
    read = read_trace(path)
    assert read.arrival_s.tolist() == [0.0, 0.75]
    assert (read.prompt_tokens.tolist(), read.output_tokens.tolist()) == ([10, 15], [20, 25])
