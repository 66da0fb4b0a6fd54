from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kvsim.content import content_path
from kvsim.errors import WorkloadError
from kvsim.workload.graph import RequestGraph
from kvsim.workload.read import read_trace
from kvsim.workload.samples import SAMPLES, write_samples
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.writers import HOLD_CONTENT, WRITERS, write_trace


@pytest.mark.parametrize("schema", list(WRITERS))
def test_what_is_written_is_read_back(tmp_path, traffic, schema: str) -> None:
    written = chat(traffic(system_prompt_tokens=40, new_tokens_mean=30.0, history_tokens_mean=20.0), 60, 5.0, 1)
    for name in ("trace", "trace.gz"):
        lost = write_trace(written, tmp_path / name, schema)
        read = read_trace(tmp_path / name)
        assert read.info.format == schema.removesuffix("_v1")
        assert not [finding for finding in read.info.lint if finding.level == "error"]
        assert read.prompt_tokens.tolist() == written.prompt_tokens.tolist()
        assert read.output_tokens.tolist() == written.output_tokens.tolist()
        error_s = 1.0 if schema == "burstgpt_v1" else 2e-3
        assert read.arrival_s == pytest.approx(written.arrival_s - written.arrival_s[0], abs=error_s)
        assert bool(lost) == (schema not in HOLD_CONTENT)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["trace", "trace.gz"]


@pytest.mark.parametrize("schema", ["mooncake", "bailian", "aiperf", "sharegpt"])
def test_what_prompts_share_is_read_back(tmp_path, traffic, schema: str) -> None:
    """Written again from what was read, a file that holds content is the same, byte by byte, but for numbering."""
    written = chat(traffic(system_prompt_tokens=600, new_tokens_mean=300.0, history_tokens_mean=900.0), 80, 5.0, 1)
    write_trace(written, tmp_path / "one", schema)
    once = read_trace(tmp_path / "one")
    if schema == "sharegpt":
        # Token ids are drawn anew for other chains, so it is the blocks that are compared.
        write_trace(once, tmp_path / "two", schema)
        twice = read_trace(tmp_path / "two")
        assert [r.pieces for r in twice] == [r.pieces for r in once]
        return
    write_trace(once, tmp_path / "two", schema)
    assert [r.pieces for r in read_trace(tmp_path / "two")] == [r.pieces for r in once]
    one, two = (
        [json.loads(line)["hash_ids"] for line in (tmp_path / name).read_text().splitlines()] for name in ("one", "two")
    )
    assert one == two


def test_sessions_and_delays_are_read_back(tmp_path, traffic) -> None:
    open_loop = chat(traffic(think_time_s=1.0), 60, 1.0, 1)
    after = np.full(60, -1, dtype=np.int64)
    latest: dict[int, int] = {}
    for row, session in enumerate(open_loop.session_id.tolist()):
        after[row] = latest.get(session, -1)
        latest[session] = row
    assert (after >= 0).any()
    think_s = np.where(after >= 0, np.arange(60) / 8, 0.0)
    closed = replace(open_loop, graph=RequestGraph.turns(after, think_s))
    assert write_trace(closed, tmp_path / "a.jsonl", "aiperf") == ()
    read = read_trace(tmp_path / "a.jsonl")
    found = {}
    read_after, read_think_s = read.graph.as_turns()
    for row in range(60):
        before = int(read_after[row])
        key = (int(read.prompt_tokens[row]), int(read.output_tokens[row]))
        found[key] = (float(read_think_s[row]), before >= 0 and int(read.prompt_tokens[before]))
    for row in range(60):
        before = int(after[row])
        key = (int(closed.prompt_tokens[row]), int(closed.output_tokens[row]))
        assert found[key] == (think_s[row], before >= 0 and int(closed.prompt_tokens[before]))
    assert "wait for answers" in write_trace(closed, tmp_path / "m.jsonl", "mooncake")[0]
    for schema in ("bailian", "burstgpt", "generic"):
        write_trace(open_loop, tmp_path / schema, schema)
        sessions = read_trace(tmp_path / schema).session_id
        same = sessions[:, None] == sessions[None, :]
        assert (same == (open_loop.session_id[:, None] == open_loop.session_id[None, :])).all(), schema


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
    assert workload.info.format == sample.format.removesuffix("_v1")
    assert len(workload) == sample.num_requests <= 40


def test_nothing_is_left_behind_by_a_failed_write(tmp_path, traffic) -> None:
    workload = chat(traffic(), 5, 1.0, 1)
    with pytest.raises(WorkloadError, match="did you mean 'azure'"):
        write_trace(workload, tmp_path / "x", "azur")
    with pytest.raises(WorkloadError, match="does not exist"):
        write_trace(workload, tmp_path / "no" / "x", "azure")
    (tmp_path / "taken").mkdir()
    with pytest.raises(WorkloadError, match="taken: cannot be written"):
        write_trace(workload, tmp_path / "taken", "azure")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
