"""The page in a real browser: it renders, zooms, filters, prints; the console stays empty."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from lightning_plateau.core.signal import (
    EXPERIMENT_GRADIENT_FLOW,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_STEP_SIZE,
    GRADIENT_NORMS,
    LOSS,
)
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


def experiments():
    along = {"0": [2.3], "0.1": [2.2], "0.3": [2.1], "1": [9.0], "3": [1e9], "10": [float("nan")]}
    flow = {f"blocks.{i}.linear": [10.0**-i] for i in range(30)}
    overfit = {"before": [2.3], "own": [2.2], "adam": [0.1]}
    return history(
        {
            EXPERIMENT_STEP_SIZE: along,
            EXPERIMENT_GRADIENT_FLOW: flow,
            EXPERIMENT_OVERFIT: overfit,
        },
        every=0,
    )


@pytest.fixture
def page(browser, tmp_path) -> Path:
    made = replace(recorded(), series={**recorded().series, **experiments().series})
    path = save_report(tmp_path / "report.html", (SOFTMAX, FLAT), treated_journal(), made)
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
        tuple(map(float, plot.get_dom_attribute("viewBox").split()))[::2]
        for plot in browser.find_elements("css selector", "svg.zoomable")
    }
    assert boxes == {(250.0, 500.0)}
    find(browser, "[data-zoom=later]").click()
    assert window(browser) == "steps 160 to 360"
    find(browser, "[data-zoom=all]").click()
    assert window(browser) == "steps 0 to 400"


def ticks(browser, plot=".plot.loss"):
    return [float(t.text) for t in browser.find_elements("css selector", f"{plot} .tick")]


def test_a_zoom_shows_its_stretch_over_the_whole_height(browser, page):
    whole = ticks(browser)
    assert max(whole) > 50 * min(whole)
    browser.execute_script("document.getElementById('axis').focus()")
    for _ in range(2):
        find(browser, "[data-zoom=in]").click()
    find(browser, "[data-zoom=later]").click()
    find(browser, "[data-zoom=later]").click()
    assert window(browser) == "steps 210 to 310"
    inside = ticks(browser)
    # The loss falls from about 0.5 to about 0.2 there.
    assert 0.05 < min(inside) < max(inside) < 1.5
    box = find(browser, ".plot.loss svg").get_dom_attribute("viewBox").split()
    assert float(box[3]) < 60
    places = [tick.location["y"] for tick in browser.find_elements("css selector", ".loss .tick")]
    assert places == sorted(places, reverse=True)
    find(browser, "#fit").click()
    assert ticks(browser) == whole
    find(browser, "#fit").click()
    find(browser, "[data-zoom=all]").click()
    assert ticks(browser) == whole


def test_broken_steps_stay_marked_at_the_top_of_a_zoomed_plot(browser, page):
    for _ in range(2):
        find(browser, "[data-zoom=in]").click()
    for _ in range(5):
        find(browser, "[data-zoom=earlier]").click()
    assert window(browser) == "steps 0 to 100"
    gaps, plot = find(browser, ".plot.loss .gaps").rect, find(browser, ".plot.loss svg").rect
    assert abs(gaps["y"] - plot["y"]) < 4


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


def test_the_page_has_landmarks_and_one_outline_of_headings(browser, page):
    landmarks = [e.tag_name for e in browser.find_elements("css selector", "body > *")]
    assert [t for t in landmarks if t in ("header", "main", "footer")] == [
        "header",
        "main",
        "footer",
    ]
    levels = [int(e.tag_name[1]) for e in browser.find_elements("css selector", "h1, h2, h3, h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert find(browser, "html").get_dom_attribute("lang") == "en"


def test_every_control_and_image_has_a_name_for_a_screen_reader(browser, page):
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    asked = {"button", "checkbox", "combobox", "image", "link", "searchbox", "slider", "region"}
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in asked
    ]
    assert {"button", "checkbox", "combobox", "image", "link", "searchbox", "slider"} <= {
        role for role, _ in seen
    }
    assert [role for role, name in seen if not name.strip()] == []


def test_the_keyboard_reaches_everything_in_the_order_of_reading(browser, page):
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        if focused.tag_name == "body":
            break
        reached.append((focused.tag_name, focused.location["y"]))
        outline = focused.value_of_css_property("outline-style")
        assert outline not in ("none", ""), focused.get_attribute("outerHTML")
    kinds = [kind for kind, _ in reached]
    assert kinds[0] == "a"  # past the plots
    assert {"button", "div", "input", "select", "summary"} <= set(kinds)
    heights = [y for _, y in reached[1:]]
    assert all(after > before - 40 for before, after in pairwise(heights))


CONTRASTS = r"""
const light = (colour) => {
  const paper = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  paper.fillStyle = colour; paper.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...paper.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/^rgba\(.*, 0\)$/.test(colour)) return colour;
  }
  return 'white';
};
const poor = [];
for (const one of document.querySelectorAll('body *')) {
  const words = [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!words || !one.checkVisibility() || one.closest('script, style, noscript')) continue;
  const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const shown = one.textContent.trim().slice(0, 30);
  if (ratio < 4.5) poor.push(`${one.tagName}.${one.className} ${shown}: ${ratio.toFixed(2)}`);
}
return poor;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(browser, page, theme):
    feature = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    try:
        browser.get(page.as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
        # WCAG 2.2, 1.4.3: 4.5 to 1.
        assert browser.execute_script(CONTRASTS) == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_symptoms_are_folded_and_a_link_unfolds_them(browser, page):
    assert not find(browser, "#LP401 dl").is_displayed()
    find(browser, "article#LP701 a[href='#LP401']").click()
    assert find(browser, "#LP401 dl").is_displayed()


def test_it_fits_a_telephone(browser, page):
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
