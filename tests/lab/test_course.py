"""All labs of the course: names, pages, what they find and write, and that their conclusions go the way theory does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY

from kvsim.errors import ConfigError
from kvsim.failures import Failures
from kvsim.lab.course.w06 import most_hits
from kvsim.lab.found import Found, do
from kvsim.lab.lab import Desk
from kvsim.lab.registry import find, names

NAMES = tuple(f"w{number:02}" for number in range(1, 17))
Rows = Callable[..., list[Any]]


def rising(values: Sequence[float], most: float = 1.0) -> bool:
    """Whether no value is less than ``most`` of the one before."""
    return all(after >= most * before for before, after in pairwise(values))


def test_there_are_sixteen_each_with_a_script_and_a_page() -> None:
    assert names() == NAMES
    index = (REPOSITORY / "docs" / "labs" / "index.md").read_text("utf-8")
    for name in NAMES:
        lab = find(name)
        script = (REPOSITORY / "experiments" / "labs" / f"{name}.py").read_text("utf-8")
        page = (REPOSITORY / "docs" / "labs" / f"{name}.md").read_text("utf-8")
        assert lab.name == name and lab.question.endswith("?")
        assert script.startswith(f'"""{lab.question}"""\n') and f'main(["lab", "{name}"' in script
        assert lab.question in page and f"kvsim lab {name}" in page and f"{name}.png" in page and f"{name}.md" in index
        assert (REPOSITORY / "docs" / "labs" / f"{name}.png").stat().st_size < 60_000


def test_an_unknown_lab_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no lab 'w1'; did you mean 'w01'"):
        find("w1")


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_goes_the_way_that_published_figures_go(found_by: Callable[[str], Found], name: str) -> None:
    found = found_by(name)
    assert [one.what for one in found.answer.beside if not one.same_sign] == []
    assert found.answer.beside and all(one.source for one in found.answer.beside)
    assert found.sentence.endswith("[simulated, preset tiny, seed 7]") and "(" in found.sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_is_told_as_json_as_csv_and_in_a_table(found_by: Callable[[str], Found], name: str) -> None:
    found = found_by(name)
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["lab"] == name and told["backend"] == "simulated" and told["conclusion"] == found.sentence
    assert len(told["rows"]) == len(found.answer.rows) == next(found.tables()).row_count
    assert set(told["rows"][0]) == set(type(found.answer.rows[0]).__dataclass_fields__)
    assert not any("-c " in asked["line"] for asked in told["asked"])


@pytest.mark.parametrize("name", ["w03", "w07"])
def test_a_lab_writes_its_files(found_by: Callable[[str], Found], name: str, tmp_path: Path) -> None:
    found, failures = found_by(name), Failures()
    written = found.write(tmp_path, failures)
    assert not failures.found and [path.name for path in written] == [f"{name}.json", f"{name}.csv", f"{name}.png"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))
    assert len(lines) == len(found.answer.rows)
    assert float(lines[0]["output_tokens_per_s" if name == "w07" else "measured_ms"]) > 0
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_rows(found_by: Callable[[str], Found]) -> None:
    first = found_by("w06")
    assert do(first.lab, first.desk).answer.rows == first.answer.rows


class Deaf:
    """A backend that sees what a client does."""

    name = "url"

    def serve(self, asked: Sequence[object]) -> list[Any]:
        raise AssertionError("nothing is to be asked")


def test_what_looks_into_steps_is_refused_by_a_client() -> None:
    with pytest.raises(ConfigError, match="lab w03 looks into steps, which the backend 'url' cannot see"):
        do(find("w03"), Desk(Deaf()))


def test_latency_and_throughput_grow_with_the_rate(rows_of: Rows) -> None:
    for engine in ("vLLM", "SGLang"):
        rows = rows_of("w01", engine=engine)
        assert rising([row.ttft_mean_ms for row in rows]) and rising([row.itl_mean_ms for row in rows])
        assert rising([row.output_tokens_per_s for row in rows])


def test_a_larger_batch_computes_more_and_reads_less(rows_of: Rows) -> None:
    rows = rows_of("w02")
    assert rising([row.compute_share for row in rows]) and rising([-row.memory_share for row in rows])
    for row in rows:
        parts = (row.attention_share, row.mlp_share, row.allreduce_share, row.other_share)
        # A batch at once leaves the GPUs nothing to wait for: parts are all of the time.
        assert sum(parts) == pytest.approx(1, abs=1e-6) and min(parts) > 0


def test_larger_pages_waste_more_and_seats_help_until_memory_ends(rows_of: Rows) -> None:
    pages = [row for row in rows_of("w04", sweep="allocation") if row.setting.startswith("pages")]
    assert rising([row.waste_share for row in pages]) and pages[0].waste_share == 0
    whole = [row for row in rows_of("w04", sweep="allocation") if row.setting.startswith("whole")]
    assert rising([-row.waste_share for row in whole]) and min(row.waste_share for row in whole) > 0.2
    assert rising([row.output_tokens_per_s for row in rows_of("w04", sweep="max-num-seqs")], 0.97)


def test_caching_saves_what_is_shared(rows_of: Rows) -> None:
    on, off = rows_of("w05", caching="on", kv_type="bf16"), rows_of("w05", caching="off")
    assert rising([-row.ttft_mean_ms for row in on]) and len({row.ttft_mean_ms for row in off}) == 1
    assert on[0].ttft_mean_ms == off[0].ttft_mean_ms and all(row.hit_share == 0 for row in off)
    # Four texts are computed once each, or again while the first is still under way.
    assert on[-1].hit_share == pytest.approx(2048 / 2304 * (1 - 4 / 25), abs=0.06)


def test_an_order_by_prefix_hits_more_but_never_more_than_there_is(rows_of: Rows) -> None:
    off, fcfs, lpm = rows_of("w06")
    assert 0 == off.hit_share < fcfs.hit_share < lpm.hit_share < most_hits(50) + 0.05
    assert off.requests_per_s < fcfs.requests_per_s < lpm.requests_per_s


def test_static_batches_lose_as_answers_differ(rows_of: Rows) -> None:
    static, continuous = rows_of("w07", batching="static"), rows_of("w07", batching="continuous")
    assert static[0].output_tokens_per_s == pytest.approx(continuous[0].output_tokens_per_s)
    assert rising(
        [
            after.output_tokens_per_s / before.output_tokens_per_s
            for before, after in zip(static, continuous, strict=True)
        ]
    )
    # What seats and answers alone say, and what the engine does.
    assert all(row.steps == pytest.approx(row.model_steps, rel=0.03) for row in (*static, *continuous))


def test_smaller_budgets_smooth_the_stream(rows_of: Rows) -> None:
    rows = rows_of("w08")
    assert rising([row.itl_p99_ms for row in rows], 0.99) and rising([-row.ttft_mean_ms for row in rows], 1.0)


def test_without_sharing_no_order_and_no_router_gains(rows_of: Rows) -> None:
    alone = rows_of("w09", decision="order", sharing="no")
    assert len({row.requests_per_s for row in alone}) == 1 and all(row.hit_share == 0 for row in alone)
    blind, _, aware = rows_of("w09", decision="router", sharing="no")
    assert aware.ttft_mean_ms == pytest.approx(blind.ttft_mean_ms, rel=0.05)
    fcfs, lpm, dfs = rows_of("w09", decision="order", sharing="yes")
    assert fcfs.hit_share < min(lpm.hit_share, dfs.hit_share)


def test_graphs_help_small_steps_alone(rows_of: Rows) -> None:
    for model in {row.model for row in rows_of("w10")}:
        rows = rows_of("w10", model=model)
        assert rising([-row.speedup for row in rows]) and rows[-1].speedup >= 1
    assert all(row.memory_gib > 0 for row in rows_of("w10"))


def test_drafts_pay_less_under_load(rows_of: Rows) -> None:
    for method in ("draft model", "n-gram", "EAGLE-3"):
        for drafts in (1, 3, 7):
            rows = rows_of("w11", method=method, drafts=drafts)
            assert rising([-row.speedup for row in rows]) and rows[0].speedup > 1
    worst = rows_of("w11", method="draft model", users=48)
    assert rising([-row.speedup for row in worst])


def test_fewer_bits_leave_more_room_and_read_faster(rows_of: Rows) -> None:
    rows = rows_of("w12")
    assert rising([-row.weights_gb for row in rows]) and rising([row.kv_tokens for row in rows])
    assert rising([-row.tpot_one_user_ms for row in rows])
    assert [row.pareto for row in rows] == [False, True, True]


def test_what_is_best_is_said_of_each_load(found_by: Callable[[str], Found]) -> None:
    # With 256 users FP8 is as accurate as any and faster than INT4.
    assert "nothing beats FP8 and INT4 for one user, and FP8 for 256 (" in found_by("w12").sentence


def test_all_reduces_take_a_larger_share_of_more_gpus(rows_of: Rows) -> None:
    for link in {row.link for row in rows_of("w13")}:
        rows = rows_of("w13", link=link)
        assert rows[0].allreduce_share == 0 and rising([row.allreduce_share for row in rows])
        assert all(row.speedup < row.degree for row in rows[1:])


def test_experts_cost_what_is_touched(rows_of: Rows) -> None:
    even, uneven = rows_of("w14", deployment="Mixtral, EP 4"), rows_of("w14", deployment="Mixtral, EP 4, uneven")
    assert all(after.step_ms >= before.step_ms for before, after in zip(even, uneven, strict=True))
    assert uneven[-1].step_ms > 1.2 * even[-1].step_ms and even[0].fullest == 1 < uneven[0].fullest
    mixed, dense = rows_of("w14", deployment="Mixtral, TP 4"), rows_of("w14", deployment="Llama-2-13B, TP 4")
    assert mixed[0].step_ms > 1.5 * dense[0].step_ms and mixed[-1].step_ms < dense[-1].step_ms


def test_tiers_save_and_drives_survive(rows_of: Rows) -> None:
    none, memory, both = rows_of("w15", sweep="tiers")
    assert none.tier_hit_share == 0 < memory.tier_hit_share < both.tier_hit_share
    assert none.ttft_mean_ms > memory.ttft_mean_ms > both.ttft_mean_ms
    lost, kept = rows_of("w15", sweep="restart")
    assert lost.tier_hit_share < memory.tier_hit_share and kept.tier_hit_share == pytest.approx(
        both.tier_hit_share, rel=0.02
    )
    assert rising([-row.tier_hit_share for row in rows_of("w15", sweep="chunk")])


def test_transfers_grow_with_the_prompt_and_are_hidden_by_layers(rows_of: Rows) -> None:
    after, chunks, layers = (
        rows_of("w16", connector=name) for name in ("after the prefill", "chunk by chunk", "layer by layer")
    )
    assert rising([row.waited_ms for row in after])
    for row in after:
        # 36 layers, 8 KV heads of 128, keys and values of two bytes.
        assert row.kv_mb == pytest.approx(row.input_tokens * 2 * 36 * 8 * 128 * 2 / 1e6)
        assert row.waited_ms == pytest.approx(row.transfer_ms)
    assert layers[-1].waited_ms < chunks[-1].waited_ms < after[-1].waited_ms
