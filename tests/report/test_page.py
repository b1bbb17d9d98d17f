"""The report in a real browser: no error, nothing from the network, the right points, pictures on a click, both schemes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nas.net.lower import lower
from nas.report.compare import compare_documents
from nas.report.page import Pictures, compare_page, embedded, page
from nas.report.picture import picture
from nas.report.run.document import run_document
from nas.search.archive import open_archive
from nas.search.metrics import METRICS
from tests.pages import architectures
from tests.report.browser import chromium, opened
from tests.report.scripted import HOSTILE, failure, outcome, scripted_run

BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 31)"}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def made(scripted, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """The document of the scripted run and the file of its page."""
    with open_archive(scripted) as archive:
        document = run_document(archive)
        file = tmp_path_factory.mktemp("page") / "report.html"
        file.write_text(page(document, Pictures().of(archive, document)), encoding="utf-8")
    return document, file


def test_data_cannot_end_its_element() -> None:
    text = embedded({"a": HOSTILE, "b": "\u2028"})
    assert json.loads(text) == {"a": HOSTILE, "b": "\u2028"}
    assert not re.search(r"[<>&\u2028]", text)


def test_a_page_names_nothing_to_load(made) -> None:
    text = made[1].read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"'](?!data:)", text.replace(HOSTILE, ""))
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_front_has_every_trial_and_a_click_shows_its_cells(browser, made, scheme) -> None:
    document, file = made
    judged = [t for t in document["trials"] if t["state"] == "completed"]
    with opened(browser, file.as_uri(), scheme) as shown:
        shown.wait_for_selector("#front .point")
        assert shown.locator("#front .point").count() == len(judged) + len(document["peers"])
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUND[scheme]
        names = shown.evaluate("document.getElementById('front').data.map((t) => t.name)")
        shown.locator("#front .trace").nth(names.index("front")).locator(".point").first.click(force=True)
        shown.wait_for_selector("#network img")
        number = int(shown.locator("#detail h3").first.inner_text().split()[1])
        assert number in document["front"]
        assert shown.locator("#export").inner_text() == f"nas export '{document['run']['path']}' trial={number}"
        assert shown.evaluate("document.querySelector('#network img').decode().then(() => true)")
        assert shown.evaluate("document.querySelector('#network img').naturalWidth") > 100
        assert shown.title() == f"{document['run']['name']}: nas report"


def test_every_plot_is_drawn_and_every_trial_listed(browser, made) -> None:
    document, file = made
    with opened(browser, file.as_uri()) as shown:
        for plot in ("front", "growth", "spent", "matter", "curves"):
            assert shown.locator(f"#{plot} .plot-container").count() == 1, plot
        assert shown.locator("#growth .trace").count() == 2
        assert shown.locator("#trials tbody tr").count() == len(document["trials"])
        assert shown.locator("#noise table").count() == 2
        reason = next(t for t in document["trials"] if t["state"] == "failed")
        shown.locator("#trials tbody button", has_text=re.compile(f"^{reason['trial']}$")).click()
        assert HOSTILE in shown.locator("#detail").inner_text()
        shown.select_option("#axis-x", "num_params")
        assert shown.locator("#front .xtitle").text_content() == "parameters"
        shown.locator("#trials th button", has_text="accuracy").click()
        rows = shown.locator("#trials tbody td:nth-child(4)").all_inner_texts()
        values = [float(text.split()[0]) for text in rows if text != "-"]
        assert values == sorted(values, reverse=True)


def test_ties_are_drawn_open_and_told(browser, made) -> None:
    document, file = made
    tied = [t for t in document["trials"] if t["ties"]]
    with opened(browser, file.as_uri()) as shown:
        assert "Open circles" in shown.locator("#front-note").inner_text()
        drawn = "document.getElementById('front').data.map((t) => [t.name, t.customdata, t.marker.symbol, t.text])"
        traces = shown.evaluate(drawn)
        front = next(t for t in traces if t[0] == "front")
        assert {n for n, symbol in zip(front[1], front[2], strict=True) if symbol == 100} == {
            t["trial"] for t in tied if t["front"]}
        (off,) = [t for t in traces if t[0] == "as good within the errors"]
        assert set(off[1]) == {t["trial"] for t in tied if not t["front"]} != set()
        assert all("as good within the errors as trial" in text for text in off[3])
        shown.locator("#trials tbody button", has_text=re.compile(f"^{off[1][0]}$")).click()
        assert "as good within the errors as trial" in shown.locator("#detail").inner_text()


def test_every_metric_and_product_is_called_by_its_name(browser, tmp_path) -> None:
    def measured(job: Any) -> dict[str, Any]:
        told = outcome(job)
        return {**told, "metrics": {**dict.fromkeys(METRICS, 1.5 + job.trial), **told["metrics"]}}

    product = "accuracy*(latency/3ms)^-0.07"
    with open_archive(scripted_run(tmp_path / "run", 8, measured, objectives=f"{product},energy")) as archive:
        document, compared = run_document(archive), compare_documents([archive])
        (tmp_path / "r.html").write_text(page(document, {}), encoding="utf-8")
        (tmp_path / "c.html").write_text(compare_page(compared), encoding="utf-8")
    for name in ("r", "c"):
        with opened(browser, (tmp_path / f"{name}.html").as_uri()) as shown:
            assert shown.input_value("#axis-y") == product
            assert shown.locator("#front .ytitle").text_content() == product
            for metric in METRICS:
                shown.select_option("#axis-x", metric)
                assert shown.locator("#front .xtitle").text_content().startswith(METRICS[metric].label)
            text = " ".join(shown.evaluate("document.getElementById('front').data.flatMap((t) => t.text)"))
            assert all(metric.label in text for metric in METRICS.values())
            assert product in text
            assert "undefined" not in text + shown.inner_text("body")


def test_a_wide_spread_has_a_logarithmic_axis(browser, made, tmp_path) -> None:
    document = json.loads(json.dumps(made[0]))
    next(t for t in document["trials"] if t["front"])["metrics"]["num_params"] *= 1000
    (tmp_path / "r.html").write_text(page(document, {}), encoding="utf-8")
    with opened(browser, (tmp_path / "r.html").as_uri()) as shown:
        kind = "document.getElementById('front').layout.xaxis.type"
        assert shown.evaluate(kind) == "linear"
        shown.select_option("#axis-x", "num_params")
        assert shown.evaluate(kind) == "log"


def test_a_run_that_found_nothing_has_a_page(browser, tmp_path) -> None:
    with open_archive(scripted_run(tmp_path / "run", 3, failure)) as archive:
        (tmp_path / "r.html").write_text(page(run_document(archive), {}), encoding="utf-8")
    with opened(browser, (tmp_path / "r.html").as_uri()) as shown:
        assert shown.locator("#trials tbody tr").count() == 3
        assert shown.locator("#front .point").count() == 0 + 1  # the published network
        assert "Nothing to show yet" in shown.locator("#growth-note").inner_text()


@pytest.mark.slow
def test_runs_side_by_side(browser, made, scripted, tmp_path) -> None:
    with open_archive(scripted) as one, open_archive(scripted) as two:
        document = compare_documents([one, two])
    (tmp_path / "c.html").write_text(compare_page(document), encoding="utf-8")
    with opened(browser, (tmp_path / "c.html").as_uri()) as shown:
        assert shown.locator("#front .point").count() == 2 * len(made[0]["front"])
        assert shown.locator("#runs tbody tr").count() == 2
        assert shown.locator("#growth .trace").count() == 2


@pytest.mark.slow
def test_text_fits_its_box(browser, tmp_path) -> None:
    for name in ("nasnet_a_cifar", "inception_resnet_v1", "mobilenet_v3_large", "swin_t"):
        file = tmp_path / f"{name}.svg"
        file.write_text(picture(lower(architectures()[name]), name), encoding="utf-8")
        with opened(browser, file.as_uri()) as shown:
            outside = shown.evaluate("""() => [...document.querySelectorAll('g g')].filter((g) => {
                const box = [...g.querySelectorAll('rect')].pop();
                return box && [...g.querySelectorAll('text')].some((t) => {
                    const [a, b] = [t.getBBox(), box.getBBox()];
                    return a.x < b.x || a.x + a.width > b.x + b.width || a.y < b.y || a.y + a.height > b.y + b.height;
                });
            }).map((g) => g.textContent)""")
            assert outside == [], name
