"""The page in a real browser: it renders, zooms, filters, prints; the console stays empty."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_plateau.core.signal import GRADIENT_NORMS, LOSS
from lightning_plateau.report.comparison_page import save_comparison
from lightning_plateau.report.html import save_report
from lightning_plateau.report.saved_run import SavedRun
from lightning_plateau.testing import history
from tests.report.runs import FLAT, SOFTMAX, journal, recorded, treated_journal

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--window-size=1200,1600",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def page(browser, tmp_path) -> Path:
    path = save_report(tmp_path / "report.html", (SOFTMAX, FLAT), treated_journal(), recorded())
    browser.get(path.as_uri())
    yield path
    assert browser.get_log("browser") == []


def find(browser, selector):
    return browser.find_element("css selector", selector)


def window(browser) -> str:
    return find(browser, "#window").text


def test_it_renders_the_verdict_first_and_every_plot_has_a_size(browser, page):
    verdict, plots = find(browser, "h1"), browser.find_elements("css selector", "svg.zoomable")
    assert verdict.text.split() == ["✕", "Sick:", "softmax-before-cross-entropy"]
    assert verdict.location["y"] < 100
    assert len(plots) == 3
    assert all(plot.size["width"] > 500 and plot.size["height"] > 40 for plot in plots)
    wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not browser.execute_script(wide)


def test_buttons_zoom_every_plot_alike(browser, page):
    assert window(browser) == "steps 0 to 400"
    find(browser, "[data-zoom=in]").click()
    assert window(browser) == "steps 100 to 300"
    boxes = {
        plot.get_dom_attribute("viewBox")
        for plot in browser.find_elements("css selector", "svg.zoomable")
    }
    assert boxes == {"250 0 500 100"}
    find(browser, "[data-zoom=later]").click()
    assert window(browser) == "steps 160 to 360"
    find(browser, "[data-zoom=all]").click()
    assert window(browser) == "steps 0 to 400"


def test_keys_zoom_and_move(browser, page):
    from selenium.webdriver.common.keys import Keys

    axis = find(browser, "#axis")
    axis.send_keys("+", "+", Keys.ARROW_LEFT)
    assert window(browser) == "steps 120 to 220"
    axis.send_keys("-")
    assert window(browser) == "steps 70 to 270"
    axis.send_keys("0")
    assert window(browser) == "steps 0 to 400"


def test_dragging_over_a_plot_zooms_and_a_double_click_shows_all(browser, page):
    from selenium.webdriver import ActionChains

    plot = find(browser, ".plot.loss")
    quarter = plot.size["width"] // 4
    drag = ActionChains(browser).move_to_element(plot).click_and_hold()
    drag.move_by_offset(quarter, 0).release().perform()
    first, last = (int(word) for word in window(browser).split()[1::2])
    assert (abs(first - 200) <= 2, abs(last - 300) <= 3) == (True, True)
    ActionChains(browser).double_click(plot).perform()
    assert window(browser) == "steps 0 to 400"


def test_values_are_read_under_the_pointer_and_by_the_slider(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(browser).move_to_element(find(browser, ".plot.loss")).perform()
    assert find(browser, "#reading").text.startswith("step 200: training 0.")
    find(browser, "#step").send_keys(Keys.HOME)
    assert find(browser, "#reading").text.startswith("step 0: training")


def test_the_filter_hides_what_does_not_match_and_a_link_brings_it_back(browser, page):
    def shown():
        found = browser.find_elements("css selector", "article.finding")
        return [article.get_attribute("id") for article in found if article.is_displayed()]

    assert shown() == ["LP701", "LP401", "LP406"]
    find(browser, "#filter").send_keys("net.head")
    assert shown() == ["LP701"]
    assert find(browser, "#count").text == "1 of 3 shown"
    find(browser, "article#LP701 a[href='#LP401']").click()
    assert "LP401" in shown()


def test_paper_shows_what_is_folded_and_both_themes_can_be_read(browser, page):
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    folded = browser.find_elements("css selector", "details:not([open])")
    assert folded == []
    assert len(browser.print_page()) > 10_000
    colours = []
    for theme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        body = find(browser, "body")
        colours.append(
            (body.value_of_css_property("color"), body.value_of_css_property("background-color"))
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours[0] != colours[1]


def test_hostile_names_run_nothing(browser, tmp_path):
    script = "<script>document.title = 'broken'</script>"
    hostile = f"{script}<img src=x onerror=\"document.title='broken'\">'\">{{{{1+1}}}}"
    finding = replace(SOFTMAX, message=hostile, where=hostile, fix=hostile)
    made = history({LOSS: [2.0, 1.0], GRADIENT_NORMS: {hostile: [1.0, 2.0]}})
    path = save_report(tmp_path / "<img>" / "report.html", (finding,), journal(finding), made)
    browser.get(path.as_uri())
    assert browser.title == "sick · <img> · lightning-plateau"
    assert hostile in find(browser, "article#LP701").text
    assert browser.get_log("browser") == []


def test_several_runs_share_one_axis(browser, tmp_path):
    runs = [
        SavedRun(tmp_path / name, made)
        for name, made in (("a", recorded()), ("b", history(loss=[2.0] * 300)))
    ]
    browser.get(save_comparison(tmp_path / "compared.html", ["a", "b"], runs).as_uri())
    find(browser, "[data-zoom=in]").click()
    assert window(browser) == "steps 100 to 300"
    lines = browser.find_elements("css selector", ".plot.compared-loss .line")
    assert len({line.value_of_css_property("stroke") for line in lines}) == 2
    assert browser.get_log("browser") == []


def test_it_fits_a_telephone(browser, page):
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
