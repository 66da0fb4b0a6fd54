"""The explorer in headless Chromium, read from a disk: ``make test-site``. Skipped without Chromium or its driver.

axe-core is taken from ``build/axe``, where ``npm install`` put it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_explore import lab, loads, put

from kvsim.explore.collect import collect
from kvsim.explore.site import write_site

webdriver = pytest.importorskip("selenium.webdriver", reason="there is no selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver")
AXE = Path(__file__).parents[2] / "build/axe/node_modules/axe-core/axe.min.js"
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync"
)
MANY = 5000
OWN = ("file://", "data:", "about:", "chrome://", "chrome-untrusted://")
"""What is asked of no host; the browser's own first page is among it."""
RUN_AXE = """
const done = arguments[0];
axe.run(document, { preload: false, runOnly: ["wcag2a", "wcag2aa", "wcag21aa"] })
  .then((found) => done(found.violations.map((each) => each.id + ": " + each.nodes[0].html)));
"""


class Page:
    """A browser, and the site that it reads."""

    def __init__(self, driver: Any, site: Path) -> None:
        self.driver, self.site = driver, site

    def open(self, address: str, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get("about:blank")
        self.driver.get(f"{self.site.as_uri()}/index.html{address}")
        self.wait()

    def wait(self) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 60).until(
            lambda _: self.js("return document.documentElement.dataset.drawn") is not None
        )

    def js(self, text: str, *arguments: object) -> Any:
        return self.driver.execute_script(text, *arguments)

    def texts(self, selector: str) -> list[str]:
        found = self.js("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)
        return list(found)

    def choose(self, selector: str, value: str) -> None:
        self.js(
            "const at = document.querySelector(arguments[0]); at.value = arguments[1];"
            "at.dispatchEvent(new Event('change')); at.dispatchEvent(new Event('input'));",
            selector,
            value,
        )

    @property
    def hash(self) -> str:
        return str(self.js("return location.hash"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("results")
    put(folder / "one.json", lab())
    put(folder / "two.json", lab("w98", ttft_ms=20.0))
    put(folder / "three.json", loads())
    site = folder / "site"
    write_site(site, collect([folder], site).artefacts)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Page(driver, site)
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def quiet(page: Page) -> Iterator[None]:
    """Whatever a test did: nothing on the console, and nothing asked of another host."""
    yield
    assert [line["message"] for line in page.driver.get_log("browser")] == []
    events = [json.loads(line["message"])["message"] for line in page.driver.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert [
        url for url in asked if not url.startswith(("file://", "data:", "about:", "chrome://", "chrome-untrusted://"))
    ] == []


def test_filters_sort_and_search_are_in_the_address(page: Page) -> None:
    page.open("#/")
    assert page.texts("#count") == ["5 of 5 entries"]
    page.choose("#filter-cache", "on")
    page.choose("#search", "w9")
    page.js("document.querySelector('[data-sort=ttft_mean_ms]').click()")
    assert page.texts("#count") == ["2 of 5 entries"]
    assert [row.split("w9")[1][0] for row in page.texts("#entries tbody th")] == ["8", "9"]
    page.js("document.querySelector('[data-sort=ttft_mean_ms]').click()")
    assert [row.split("w9")[1][0] for row in page.texts("#entries tbody th")] == ["9", "8"]
    page.open(page.hash)
    assert page.texts("#count") == ["2 of 5 entries"]
    assert page.js("return document.querySelector('#filter-cache').value") == "on"


def test_chosen_entries_are_compared_and_the_link_works_again(page: Page) -> None:
    page.open("#/?kind=lab")
    page.js("document.querySelectorAll('#entries input').forEach((each, at) => { if (at < 3) each.click(); })")
    page.js("delete document.documentElement.dataset.drawn; document.querySelector('#to-compare').click()")
    page.wait()
    for _ in range(2):
        assert page.texts("h1") == ["Compare 3 entries"]
        assert any(text.endswith("%") for text in page.texts(".apart"))
        page.open(page.hash)


def test_an_artefact_is_drawn_and_its_chart_can_be_changed(page: Page) -> None:
    page.open("#/")
    page.open(page.js("return document.querySelector('#entries a').getAttribute('href')"))
    assert page.texts(".lead") == ["it does"]
    assert len(page.texts(".chart svg")) == 1
    page.choose("[data-axis=y]", "hit_share")
    page.wait()
    assert "y0=hit_share" in page.hash
    page.open("#/a/000000000000")
    assert page.texts("h1") == ["Not here"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_fits_and_has_labels_and_contrast(page: Page, scheme: str, width: int) -> None:
    page.open("#/")
    links = [*dict.fromkeys(page.js("return kvsim.rows.map((row) => '#/a/' + row.id.split('.')[0])"))]
    picks = page.js("return kvsim.rows.map((row) => row.id).join(',')")
    for address in ["#/", f"#/compare?pick={picks}", *links]:
        page.open(address, width, scheme)
        assert page.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        if AXE.exists():
            page.js(AXE.read_text())
            assert page.driver.execute_async_script(RUN_AXE) == []


def test_the_scheme_can_be_chosen(page: Page) -> None:
    page.open("#/", scheme="light")
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.js(colour)
    page.choose("#theme", "dark")
    dark = page.js(colour)
    page.open("#/", scheme="dark")
    assert page.js(colour) == dark != light
    page.choose("#theme", "light")
    assert page.js(colour) == light
    page.choose("#theme", "")


def test_five_thousand_artefacts_are_there_in_two_seconds(page: Page, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for place in range(MANY):
        put(results / f"{place}.json", lab(f"w{place}", ttft_ms=float(place)))
    write_site(tmp_path / "site", collect([results], tmp_path / "site").artefacts)
    many = Page(page.driver, tmp_path / "site")
    many.open("#/")
    assert many.texts("#count") == [f"{2 * MANY:,} of {2 * MANY:,} entries"]
    took_ms = many.js("return performance.getEntriesByType('measure').find((each) => each.name === 'shown').duration")
    assert took_ms <= 2000
