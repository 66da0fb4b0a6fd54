"""The parts of a page, each on figures that are known."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import polars as pl
import pytest

from kvsim.config import load_config
from kvsim.page import charts, heat
from kvsim.page.colours import colour, dash, variables
from kvsim.page.markup import Html, element, embedded_json, embedded_script, together
from kvsim.page.sample import MOST_ROWS, _rows
from kvsim.page.series import BINS, coarse, curves, short
from kvsim.page.settings import settings
from kvsim.record.timeline import sums


def test_text_is_escaped_and_html_is_not():
    assert element("p", "a < b", element("b", "&"), class_="x", hidden=True, id=None) == (
        '<p class="x" hidden>a &lt; b<b>&amp;</b></p>'
    )
    assert isinstance(together("<", Html("<i>")), Html)
    assert element("a", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;"></a>'


def test_nothing_ends_a_script_early():
    value = {"a": "</script><!--", "b": "\u2028"}
    assert "<" not in embedded_json(value) and json.loads(embedded_json(value)) == value
    assert embedded_script('x="</script>"') == 'x="<\\/script>"'
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))


def test_numbers_are_short():
    assert short(np.array([1234.5678, 0.00012345, np.nan, np.inf, 0.0])) == [1235.0, 0.0001234, None, None, 0.0]


def test_equal_curves_are_one():
    same = np.linspace(1, 2, 50)
    found = curves([("a", same), ("none", np.array([np.nan])), ("b", 2 * same), ("c", same)])
    assert [(curve.place, curve.names) for curve in found] == [(0, ["a", "c"]), (2, ["b"])]
    assert found[1].values[[0, -1]] == pytest.approx([2, 4])


def test_coarser_bins_add_up(told):
    for result in told.results:
        edges, added = coarse(result.detail, result.end_s, bins=7)
        assert len(edges) <= 8 and edges[0] == 0 and edges[-1] == pytest.approx(result.end_s)
        for name, values in sums(result.detail).items():
            assert added[name].sum(axis=1) == pytest.approx(values.sum(axis=1)), name
        assert len(coarse(result.detail, result.end_s)[0]) <= BINS + 1


def test_twelve_series_are_told_apart():
    assert len({(colour(at), str(dash(at))) for at in range(12)}) == 12
    for dark in (False, True):
        values = re.findall(r"#\w{6}", variables(dark=dark))
        assert len(set(values)) == 10
        assert all(_contrast(value, "#0f1318" if dark else "#ffffff") > 1.9 for value in values)


def _contrast(a: str, b: str) -> float:
    """Of WCAG 2."""
    light, dark = sorted((_luminance(each) for each in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_logarithmic_axis_has_round_numbers():
    assert charts._powers(42, 900) == [50, 100, 200, 500]
    assert charts._powers(0.5, 2e6) == [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]


def test_a_sample_has_the_slowest_and_the_rest_evenly():
    count = 10 * MOST_ROWS
    ttft_s = np.ones(count)
    ttft_s[12_345] = 99.0
    frame = pl.DataFrame(
        {"arrival_s": np.arange(count, dtype=float), "ttft_s": ttft_s, "e2e_s": np.arange(count) * 1.0}
    )
    rows = _rows(frame, MOST_ROWS)
    assert len(rows) == len(set(rows)) == MOST_ROWS
    assert {0, 12_345, count - 1} <= set(rows)
    later = [row for row in rows if 1_000 < row < count - 1_000 and row != 12_345]
    assert max(np.diff(later)) <= 14
    assert _rows(frame[:50], MOST_ROWS) == list(range(50))


def test_more_instances_than_lines_are_grouped():
    from PIL import Image

    part = np.zeros((601, 4))
    part[0] = 1.0
    figure = heat._figure("busy", part, np.ones((601, 4)), 10.0)
    assert "each line is the mean of up to 3 of the 601 instances" in figure
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", figure).group(1))))
    assert picture.size == (4, 201)
    third, nothing = (picture.getpixel((0, row))[:3] for row in (0, 1))
    assert third != nothing
    assert "each line" not in heat._figure("busy", part[:300], np.ones((300, 4)), 10.0)


def test_what_differs_from_the_defaults_is_marked():
    page = settings(load_config(sets=["engine.block_size=32"]).config)
    (row,) = re.findall(r'<tr class="changed">.*?</tr>', page)
    assert row == '<tr class="changed"><th scope="row">engine.block_size</th><td>32</td><td>16</td></tr>'
    assert "1 key of " in page
    assert '<tr class="changed">' not in settings(load_config().config)
