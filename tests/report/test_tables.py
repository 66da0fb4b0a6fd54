import dataclasses
import io
import re

import pytest
from rich.console import Console

from kvsim.record.result import Check
from kvsim.report.tables import print_report


def printed(report, width):
    stream = io.StringIO()
    print_report(Console(file=stream, width=width), report)
    return stream.getvalue()


@pytest.fixture(params=[80, 120])
def width(request):
    return request.param


@pytest.fixture
def systems(make_result):
    return [
        make_result("unified", {"queue_s": 1.0, "interference_s": 0.25, "prefill_s": 0.75}, 0.04),
        make_result("pd", {"queue_s": 0.2, "prefill_s": 0.6, "transfer_s": 0.1, "first_decode_s": 0.1}, 0.03),
    ]


def line(text, label):
    """The cells of the first line that starts with ``label``."""
    found = next(row for row in text.splitlines() if row.strip().startswith(label))
    return re.split(r"\s{2,}", found.strip())


def test_figures_stand_side_by_side_with_the_better_marked(make_report, systems, width):
    text = printed(make_report(*systems), width)
    assert line(text, "TTFT p99 (ms)") == ["TTFT p99 (ms)", "2,000", "1,000", "PD 2.00x lower"]
    assert line(text, "TPOT mean (ms)") == ["TPOT mean (ms)", "40.0", "30.0", "PD 25% lower"]
    assert line(text, "ITL p50 (ms)") == ["ITL p50 (ms)", "20.0", "20.0", "tie"]
    assert line(text, "E2E p90 (s)") == ["E2E p90 (s)", "2.40", "1.30", "PD 46% lower"]
    assert line(text, "goodput (requests/s)") == ["goodput (requests/s)", "0.100", "0.100", "tie"]
    assert line(text, "within SLO") == ["within SLO", "100%", "100%", "tie"]
    assert line(text, "prefix hit rate") == ["prefix hit rate", "70%", "70%", "tie"]
    assert line(text, "busy (prefill / decode)") == ["busy (prefill / decode)", "60%", "50% / 70%"]
    assert line(text, "KV moved (GB)") == ["KV moved (GB)", "-", "4.00"]
    assert line(text, "preemptions") == ["preemptions", "3", "3", "tie"]
    assert line(text, "requests completed") == ["requests completed", "10", "10"]
    assert "requests failed" not in text


def test_shares_differ_by_points(make_report, make_result, width):
    text = printed(
        make_report(make_result("unified", {"queue_s": [1.0] * 6 + [9.0] * 4}), make_result("pd", {})), width
    )
    assert line(text, "within SLO") == ["within SLO", "60%", "100%", "PD 40.0 points higher"]


def test_the_header_says_what_was_simulated(make_report, systems, width):
    text = " ".join(printed(make_report(*systems), width).split())
    for words in (
        "mode pd, preset smoke, seed 42",
        "64 GPUs, 16 instances, 1 rack; PD 4:12 prefill:decode, balanced",
        "llama-3.1-70b bf16, 4 x h100-sxm an instance",
        "10 requests over 10.0 s, on average 2,000 prompt and 11.0 output tokens",
        "0.7 of PD's maximum: 1.00 requests/s of 1.43",
        "TTFT <= 2,000 ms and mean TPOT <= 50 ms",
    ):
        assert words in text


def test_the_waterfall_has_its_parts_and_its_sum(make_report, systems, width):
    unified, pd = printed(make_report(*systems), width).split("Where TTFT goes: ")[1:]
    assert line(unified, "queue")[:3] == ["queue", "1,000", "50%"]
    assert line(unified, "batch interference")[:3] == ["batch interference", "250", "12%"]
    assert line(unified, "TTFT ")[:3] == ["TTFT", "2,000", "100%"]
    assert line(pd, "exposed transfer")[:3] == ["exposed transfer", "100", "10%"]
    assert line(pd, "TTFT ")[:3] == ["TTFT", "1,000", "100%"]
    assert "decode wait" not in pd.split("TTFT ")[0] and "tier load" not in unified
    bar = re.search("█+", next(row for row in unified.splitlines() if "queue" in row))
    assert len(bar.group()) == {80: 4, 120: 10}[width]


def test_no_line_is_wider_than_the_terminal_and_no_colour_is_written(make_report, systems, width):
    text = printed(make_report(*systems), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text and "…" not in text


def test_the_conclusion_is_the_report_s(make_report, systems, width):
    report = make_report(*systems)
    assert report.conclusion in " ".join(printed(report, width).split())


def test_ascii_terminals_get_ascii(make_report, systems):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_report(Console(file=stream, width=80), make_report(*systems))
    stream.flush()
    assert b"####" in stream.buffer.getvalue()


def test_caveats_are_printed(make_report, make_result, width):
    pd = make_result("pd", {})
    prefill, decode = pd.roles
    pd = dataclasses.replace(
        pd,
        completed=8,
        failed=1,
        in_flight=1,
        steady=False,
        steady_why="60 requests, steady needs 400",
        incomplete=True,
        roles=(dataclasses.replace(prefill, load=0.1), decode),
        checks=(Check("bytes sent = bytes received", 4.0, 3.0, False),),
        notes=("blocks were synthesised",),
    )
    sections = {"workload": {"lint": ("3 rows without output",), "notes": ("blocks were synthesised",)}}
    report = make_report(make_result("unified", {}), pd, cluster={"balanced_pd_ratio": (1, 9)}, **sections)
    text = " ".join(printed(report, width).split())
    assert "CONSERVATION VIOLATED, the figures above are wrong. PD: bytes sent = bytes received: expected 4.0" in text
    assert "warning: PD: not steady: 60 requests, steady needs 400" in text
    assert "warning: PD: incomplete, interrupted with 8 of 10 arrived requests done" in text
    assert "warning: PD: 1 request failed" in text
    assert "PD: unbalanced sides, prefill loaded to 10% and decode 70% (P:D 4:12); P:D 1:9 would balance" in text
    assert "warning: trace: 3 rows without output" in text
    assert text.count("note: blocks were synthesised") == 1
    assert "request failed" in text and "requests in flight" in text


def test_a_sound_report_has_no_warnings(make_report, systems, width):
    text = printed(make_report(*systems), width)
    assert "warning" not in text and "VIOLATED" not in text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_numbers_of_systems(make_report, make_result, count):
    text = printed(make_report(*[make_result("unified", {"queue_s": 0.1 * k}) for k in range(count)]), 80)
    assert text.count("Where TTFT goes") == count and "better" not in text


def test_what_had_no_effect_and_what_failed_is_said_once(make_report, systems, width):
    text = printed(make_report(*systems, cluster={"warnings": ("study 'context' failed: none fits",)}), width)
    assert text.count("warning: study 'context' failed: none fits") == 1
