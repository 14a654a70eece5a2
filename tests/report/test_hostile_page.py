"""A page about a run of somebody else's, whose every name wants to be more than a name."""

import pytest

from fedrms.results.report import write_report
from tests.report.made_runs import write_run
from tests.report.test_page_in_browser import Opened, browser, pytestmark

__all__ = ["browser", "pytestmark"]

AWAY = "https://evil.example/"
EVIL = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    f"<a href='{AWAY}'>here</a>",
    "\"'><svg onload=window.pwned=1>",
    f"[x]({AWAY})<!--{{{{7*7}}}}${{alert(1)}}",
    f"<style>@import '{AWAY}'</style>$x$ $\\frac{{$",
)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    for strategy in ("fedavg", f"fedrms{EVIL[0]}"):
        run = folder / f"{EVIL[3].replace('/', '')}{strategy[:6]}"
        texts = {"failure": "".join(EVIL), "revision": EVIL[1], "metric": f"f1{EVIL[2]}"}
        options = {"model__name": EVIL[1], "partition__name": EVIL[2], "data__name": EVIL[4]}
        write_run(run, strategy, ids=list(EVIL), failing=2, **texts, **options)
    page = write_report([folder]).page
    return Opened(browser, page), page


def test_it_is_drawn_and_asks_for_nothing_but_itself(opened):
    one, page = opened
    assert one.errors == []
    asked = [url for url in one.requests if not url.startswith(("data:", "blob:"))]
    assert asked == [page.as_uri()]


def test_every_name_stays_a_name(opened):
    one, _ = opened
    for plot in one.shown_plots():
        box = plot.bounding_box()
        for share in (0.2, 0.5, 0.8):
            one.page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            one.page.wait_for_timeout(50)
    assert one.page.evaluate("window.pwned") is None
    assert one.page.query_selector_all("img[src=x], svg[onload], [onerror]") == []
    leads_away = "[...document.querySelectorAll('a')].filter(a => a.outerHTML.includes('evil.ex'))"
    assert one.page.evaluate(f"{leads_away}.map(a => a.outerHTML)") == []
    assert "<img src=x" in one.page.inner_text("body")
