from __future__ import annotations

import pytest

from kvsim.content import content_path
from kvsim.errors import WorkloadError
from kvsim.workload.read import read_trace
from kvsim.workload.samples import SAMPLES, write_samples
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.writers import WRITERS, write_trace


@pytest.mark.parametrize("schema", list(WRITERS))
def test_what_is_written_is_read_back(tmp_path, traffic, schema: str) -> None:
    written = chat(traffic(system_prompt_tokens=40, new_tokens_mean=30.0, history_tokens_mean=20.0), 60, 5.0, 1)
    path = tmp_path / "trace"
    write_trace(written, path, schema)
    read = read_trace(path)
    assert read.info.format == schema and not [f for f in read.info.lint if f.level == "error"]
    assert read.prompt_tokens.tolist() == written.prompt_tokens.tolist()
    assert read.output_tokens.tolist() == written.output_tokens.tolist()
    assert read.arrival_s == pytest.approx(written.arrival_s - written.arrival_s[0], abs=2e-3)
    assert list(tmp_path.iterdir()) == [path]


def test_shared_prefixes_survive_as_whole_blocks(tmp_path, traffic) -> None:
    """A system prompt of 1,200 tokens is two shared blocks of 512 and a third that also holds a session's tokens."""
    written = chat(traffic(num_system_prompts=1, history_tokens_mean=0.0), 50, 5.0, 1)
    write_trace(written, tmp_path / "m.jsonl", "mooncake")
    assert {request.pieces[0] for request in read_trace(tmp_path / "m.jsonl")} == {(0, 1024)}
    write_trace(written, tmp_path / "s.jsonl", "sharegpt")
    assert {request.pieces[0] for request in read_trace(tmp_path / "s.jsonl")} == {(0, 1200)}


def test_samples_are_written_the_same_each_time(tmp_path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_samples(tmp_path / folder)
    for sample in SAMPLES:
        assert (tmp_path / "a" / sample.file).read_bytes() == (tmp_path / "b" / sample.file).read_bytes()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file)
def test_shipped_samples_are_what_they_say(sample) -> None:
    workload = read_trace(content_path("trace", sample.file), strict=True)
    assert workload.info.format == sample.format
    assert len(workload) == sample.num_requests <= 40


def test_nothing_is_left_behind_by_a_failed_write(tmp_path, traffic) -> None:
    workload = chat(traffic(), 5, 1.0, 1)
    with pytest.raises(WorkloadError, match="did you mean 'azure'"):
        write_trace(workload, tmp_path / "x", "azur")
    with pytest.raises(WorkloadError, match="does not exist"):
        write_trace(workload, tmp_path / "no" / "x", "azure")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_trace(workload, tmp_path / "taken", "azure")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
