"""The page in a real headless Chromium, opened from disk."""

import itertools
import re
import shutil
import zlib
from pathlib import Path

import pytest

from fedrms.results.report import write_report
from tests.report.made_runs import write_comparison

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra test")
pytest.importorskip("plotly", reason="needs the extra report")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        BROWSER is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"
    ),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for alpha in (0.1, 1.0):
        write_comparison(folder / f"a{alpha}", partition__alpha=alpha, rounds=12, failing=4)
    return write_report([folder], static=False).page


class Opened:
    """A page that is drawn, with what it logged and asked for on the way."""

    def __init__(self, browser, path, viewport=DESKTOP, **options):
        self.page = browser.new_page(viewport=viewport, **options)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-drawn]", timeout=60_000)

    def shown_plots(self):
        return [p for p in self.page.query_selector_all(".plot") if p.is_visible()]


@pytest.fixture(scope="module")
def desktop(browser, report):
    return Opened(browser, report)


@pytest.fixture
def opened(browser, report):
    one = Opened(browser, report)
    yield one
    one.page.close()


def test_it_loads_from_disk_without_errors_or_the_network(desktop, report):
    assert desktop.errors == []
    asked = [url for url in desktop.requests if not url.startswith(("data:", "blob:"))]
    assert asked == [report.as_uri()]


def test_every_figure_of_the_setting_is_drawn_and_none_is_empty(desktop):
    plots = desktop.shown_plots()
    assert len(plots) >= 10
    for plot in plots:
        box = plot.query_selector("svg.main-svg").bounding_box()
        assert box["width"] > 200
        assert box["height"] > 200
        drawn = plot.query_selector_all(
            ".js-line, .js-fill, .point, .heatmaplayer image"  # lines, bands, points and bars
        )
        assert drawn, plot.get_attribute("id")


def test_hovering_over_a_bar_names_the_client(desktop):
    plot = desktop.page.locator("[id$=setting-1-gains]")
    plot.scroll_into_view_if_needed()
    bar = plot.locator(".bars path").last.bounding_box()
    desktop.page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    label = plot.locator(".hoverlayer .hovertext").first
    label.wait_for(timeout=5000)
    assert "client" in label.text_content()
    assert "gain in accuracy" in label.text_content()


def test_a_strategy_that_is_switched_off_leaves_figures_and_tables(opened):
    page = opened.page
    lines = "[id$=setting-1-learning-curves] path.js-line"
    rows = page.locator("[id$=setting-1-comparison] tbody tr:visible")
    both = page.locator(lines).count()
    page.get_by_role("checkbox", name="fedrms").uncheck()
    page.wait_for_function(f"2 * document.querySelectorAll('{lines}').length == {both}")
    assert rows.all_text_contents()[0].strip().startswith("fedavg")
    assert rows.count() == 1
    page.get_by_role("checkbox", name="fedrms").check()
    page.wait_for_function(f"document.querySelectorAll('{lines}').length == {both}")
    assert rows.count() == 2


def test_another_setting_is_drawn_when_it_is_chosen(opened):
    page = opened.page
    before = opened.shown_plots()
    page.get_by_label("Setting", exact=True).select_option(index=1)
    page.wait_for_function(
        "document.querySelector('[id$=setting-2-learning-curves] path.js-line') !== null"
    )
    assert page.locator("#setting-1").is_hidden()
    assert len(opened.shown_plots()) == len(before)


def test_search_leaves_the_rows_that_hold_the_words(opened):
    page = opened.page
    field = page.locator("#setting-1 input[type=search]").first
    table = page.locator(f"#{field.get_attribute('data-rows')} tbody tr:visible")
    count = table.count()
    field.fill("no such thing")
    assert table.count() == 0
    field.fill("")
    assert table.count() == count


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_stands_out_from_paper_in_light_and_dark(browser, report, scheme):
    one = Opened(browser, report, color_scheme=scheme)
    paper, ink, tick = one.page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  getComputedStyle(document.body).color,
                  getComputedStyle(document.querySelector('.xtick text')).fill]"""
    )

    def luminance(rgb):
        parts = [int(v) / 255 for v in rgb[rgb.index("(") + 1 : -1].split(",")[:3]]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    assert (luminance(paper) > 0.5) == (scheme == "light")
    for color in (ink, tick):
        low, high = sorted((luminance(paper), luminance(color)))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, 1.4.3
    one.page.close()


def test_a_phone_scrolls_down_and_never_sideways(browser, report):
    one = Opened(browser, report, PHONE, device_scale_factor=2, is_mobile=True, has_touch=True)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert one.errors == []
    one.page.close()


def test_on_paper_it_is_black_on_white_and_fits_the_sheet(browser, report):
    one = Opened(browser, report, color_scheme="dark")
    one.page.emulate_media(media="print", color_scheme="dark")
    one.page.wait_for_function(
        "getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(0, 0, 0)'"
    )
    paper = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert not one.page.locator(".controls").is_visible()
    widths = [p.query_selector("svg").bounding_box()["width"] for p in one.shown_plots()]
    assert max(widths) <= 700  # an A4 sheet at 96 dots an inch, without margins
    one.page.close()


def test_a_sheet_is_printed_at_its_full_size(browser, report):
    """Chromium shrinks every sheet, and all text on it, to fit the widest thing on the page."""
    one = Opened(browser, report)
    pdf = one.page.pdf(format="A4")
    one.page.close()
    text = next(t for t in map(_inflated, _streams(pdf)) if b"\nq\n" in t and b" cm\n" in t)
    dots = [float(scale) for scale in re.findall(rb"([\d.]+) 0 0 \1 ", text)]
    # 300 dots an inch over 96 pixels an inch: 3.125 where nothing was shrunk
    assert dots[0] == pytest.approx(3.125, rel=0.02)


def test_who_prints_before_all_is_drawn_gets_every_figure_and_the_screen_is_as_before(
    browser, report
):
    page = browser.new_page(viewport=DESKTOP)
    page.goto(report.as_uri(), wait_until="commit")
    page.wait_for_selector("footer", state="attached")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = page.evaluate(
        """[...document.querySelectorAll("#setting-1 .plot")]
             .map((plot) => plot.querySelector("svg.main-svg")?.clientWidth)"""
    )
    assert len(widths) >= 10
    assert set(widths) == {680}
    page.wait_for_selector("html[data-drawn]", timeout=60_000)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function("document.querySelector('.plot svg.main-svg').clientWidth > 680")
    legend, rows = page.evaluate(
        """["legend", "cartesianlayer"].map((name) => document
             .querySelector(`[id$=client-weights] .${name}`).getBoundingClientRect())
             .map((box) => [box.top, box.bottom])"""
    )
    assert legend[1] <= rows[0] + 1  # above the plot, not on it
    page.close()


def test_no_sheet_is_empty(browser, report):
    one = Opened(browser, report)
    pdf = one.page.pdf(format="A4")
    one.page.close()
    written = sum(b"BT\n" in text for text in map(_inflated, _streams(pdf)))
    assert written == len(re.findall(rb"/Type /Page\b", pdf)) > 3


def _streams(pdf):
    return [pdf[at.end() :] for at in re.finditer(rb"stream\r?\n", pdf)]


def _inflated(stream):
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return b""


def test_escape_closes_what_hovering_opened(desktop):
    plot = desktop.page.locator("[id$=setting-1-gains]")
    plot.scroll_into_view_if_needed()
    bar = plot.locator(".bars path").last.bounding_box()
    desktop.page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    label = plot.locator(".hoverlayer .hovertext")
    label.first.wait_for(timeout=5000)
    desktop.page.keyboard.press("Escape")
    label.first.wait_for(state="detached", timeout=5000)
    assert label.count() == 0
    desktop.page.mouse.move(0, 0)


def test_the_keyboard_reaches_the_results_first_and_then_the_controls(opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "setting"
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.getElementById('setting-1').hidden")


def test_figures_have_names_and_descriptions_and_tables_have_headers(desktop):
    page = desktop.page
    for plot in desktop.shown_plots():
        told = plot.evaluate(
            """node => ['aria-labelledby', 'aria-describedby'].map(
                 (key) => document.getElementById(node.getAttribute(key)).textContent)"""
        )
        assert plot.get_attribute("role") == "group"
        assert len(told[0]) > 5
        assert len(told[1]) > 20
    tables = page.locator("table")
    for i in range(tables.count()):
        assert tables.nth(i).locator("thead th[scope=col]").count() > 0
        assert tables.nth(i).locator("tbody th[scope=row]").count() > 0
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].filter((h) => h.offsetParent)"
        ".map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    steps = itertools.pairwise(levels)
    assert all(after - before <= 1 for before, after in steps)
    assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((node) => node.id)).size"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(browser, report, viewport, scheme):
    rules = pytest.importorskip("axe_playwright_python", reason="needs the extra test")
    one = Opened(browser, report, viewport, color_scheme=scheme)
    one.page.evaluate((Path(rules.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = one.page.evaluate("axe.run(document)")["violations"]
    assert [(rule["id"], len(rule["nodes"])) for rule in found] == []
    one.page.close()


def test_the_keyboard_passes_over_figures(opened):
    focusable = "a[href], button, input, select, summary, [tabindex='0']"
    found = opened.page.evaluate(
        """(focusable) => [...document.querySelectorAll('.plot')]
             .flatMap((plot) => [...plot.querySelectorAll(focusable)])
             .filter((node) => node.tabIndex >= 0).length""",
        focusable,
    )
    assert found == 0


def test_the_first_screen_opens_with_the_verdict_and_names_every_client(desktop):
    first = desktop.page.locator("#setting-1 .verdict").first
    assert first.bounding_box()["y"] < DESKTOP["height"]
    assert "Not yet decided: fedrms is better on 2 of 2 seeds" in first.text_content()
    names = desktop.page.locator("[id$=setting-1-client-weights] .ytick text").all_text_contents()
    assert [name.split(":")[0] for name in sorted(names)] == [f"client {i}" for i in range(6)]
    assert desktop.page.locator("#setting-1 .cards li").count() >= 3


def test_without_scripts_all_words_and_tables_are_there(browser, report):
    one = Opened(browser, report, java_script_enabled=False)
    assert one.page.locator("#setting-1 table").first.is_visible()
    assert "need JavaScript" in one.page.locator("main").text_content()
    one.page.close()


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (794, "print"), (390, "screen")])
def test_the_columns_that_matter_are_in_sight(width, media, browser, report):
    """All on a desktop and on paper; up to the difference on a phone."""
    one = Opened(browser, report, {"width": width, "height": 900})
    one.page.emulate_media(media=media)
    columns = one.page.evaluate(
        """[...[...document.querySelectorAll("table")].find(t => t.offsetParent &&
        t.tHead.innerText.includes("better")).tHead.rows[0].cells]
        .map(cell => [cell.innerText, cell.getBoundingClientRect().right])"""
    )
    one.page.close()
    names = [name for name, _ in columns]
    needed = [name for name in names if name.startswith("difference")]
    last = names.index(needed[0]) if width == PHONE["width"] else len(names) - 1
    assert all(right <= width for _, right in columns[: last + 1]), columns
