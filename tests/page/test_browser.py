"""The page in headless Chromium, where that is installed, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
DARK = "--blink-settings=preferredColorScheme=0"
CHARTS = 9
"""Two of the parts of TTFT, three distributions, four over time."""

NARROW = """<iframe id="frame" style="width:360px;height:900px;border:0" srcdoc="{}"></iframe><script>
const wait = setInterval(() => {{
  const page = document.getElementById("frame").contentDocument?.documentElement;
  if (!page?.dataset.drawn) return;
  clearInterval(wait);
  const wide = [...page.querySelectorAll("svg")].filter((each) => each.getBoundingClientRect().right > 361).length;
  document.documentElement.dataset.found = `${{page.scrollWidth - page.clientWidth}} ${{wide}} ${{page.dataset.drawn}}`;
}}, 20);
</script>"""
FILTERED = """<script>
const field = document.getElementById("filter"), heads = [...document.querySelectorAll("#requests th button")];
const type = (text) => { field.value = text; field.dispatchEvent(new Event("input")); };
const said = [];
type("system = pd and ttft > 100");
heads.find((each) => each.textContent === "ttft ms").click();
said.push(document.querySelector("#requests tbody tr").textContent);
heads.find((each) => each.textContent === "ttft ms").click();
said.push(document.getElementById("place").textContent);
said.push(document.querySelector("#requests tbody tr").textContent);
said.push([...document.querySelectorAll("#requests th")].map((each) => each.getAttribute("aria-sort")).join(" "));
type("speed > 3");
said.push(document.getElementById("filter-hint").textContent, field.getAttribute("aria-invalid"));
document.documentElement.setAttribute("data-said", said.join("|"));
</script>"""


def chromium(folder: Path, page: str, *flags: str) -> tuple[str, str]:
    """What it writes to stdout, and what the page wrote to its console."""
    path = folder / "page.html"
    path.write_text(page)
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=20000",
        "--enable-logging=stderr",
        *flags,
        path.as_uri(),
    ]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)}
    )
    assert found.returncode == 0, found.stderr
    return found.stdout, "\n".join(line for line in found.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("flags", [[], [DARK]], ids=["light", "dark"])
def test_all_charts_are_drawn_and_nothing_is_complained_of(told, tmp_path, flags):
    dom, console = chromium(tmp_path, told.page, "--dump-dom", *flags)
    assert console == ""
    assert f'data-drawn="{CHARTS}"' in dom
    assert len(re.findall(r'<svg[^>]*class="marks"', dom)) == CHARTS


def test_it_fits_360_pixels(told, tmp_path):
    dom, console = chromium(tmp_path, NARROW.format(escape(told.page)), "--dump-dom")
    assert console == ""
    assert f'data-found="0 0 {CHARTS}"' in dom


def test_the_table_filters_and_sorts(told, tmp_path):
    dom, console = chromium(tmp_path, told.page.removesuffix("</body></html>\n") + FILTERED, "--dump-dom")
    assert console == ""
    slowest, place, first, order, hint, invalid = re.search(r'data-said="([^"]*)"', dom).group(1).split("|")
    pd = next(result for result in told.results if result.name == "pd")
    ttft_s = pd.table["first_token_s"] - pd.table["arrival_s"]
    ids = pd.table["request_id"][ttft_s.argsort()].astype(int)
    count = int((ttft_s > 0.1).sum())
    assert place.endswith(f" of {count}") and 0 < count < len(ids)
    assert slowest.startswith(f"PD{ids[-1]}")
    assert first.startswith(f"PD{ids[-count]}")
    assert order.count("ascending") == 1 and order.count("none") > 5
    assert hint.startswith("there is no column &quot;speed&quot;; there are system, id,") and invalid == "true"


def test_it_prints(told, tmp_path):
    chromium(tmp_path, told.page, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
