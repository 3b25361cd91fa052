"""A report is one file that needs nothing from outside, escapes what users wrote, and is whole."""

import html.parser
import re

import numpy as np
import pytest

import jaxscale as js


class Reader(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects what a browser would load."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags, self.ids, self.links = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.loads += [attrs[name] for name in ("src", "srcset", "data") if name in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(report):
    reader = Reader()
    reader.feed(report.html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def results(simulated_fit, key):
    boot = js.bootstrap(simulated_fit, n=200, key=key)
    side = js.intervals(
        simulated_fit, ["alpha", "a"], methods=["hessian", "pairs"], resamples=200, key=key
    )
    return boot, side, js.allocate(boot, flop=np.geomspace(1e20, 1e24, 5))


def test_everything_is_inside_the_file(simulated_fit, results):
    seen = read(js.report(simulated_fit, *results, reproduce="jaxscale report runs.csv"))
    assert all(source.startswith("data:image/png;base64,") for source in seen.loads)
    assert seen.tags.count("img") == 6
    assert not {"script", "link", "iframe"} & set(seen.tags)
    assert {link.removeprefix("#") for link in seen.links} == set(seen.ids)
    assert len(set(seen.ids)) == len(seen.ids)


def test_it_holds_the_numbers(simulated_fit, results):
    boot, _, line = results
    page = js.report(simulated_fit, *results, reproduce="jaxscale report runs.csv --seed 3").html
    text = re.sub(r"<[^>]+>", " ", page)
    assert f"{float(simulated_fit.params['alpha']):.6g}" in text
    assert str(simulated_fit.restarts) in text
    assert simulated_fit.digest in text
    assert f"{float(line.N[2]):.4g}" in text
    assert f"{boot.interval('alpha')[0]:.5g}" in text
    assert "jaxscale report runs.csv --seed 3" in text
    assert js.__version__ in text
    assert "questions are answered" in text


def test_order_and_repeats(simulated_fit, results):
    boot, side, line = results
    page = js.report(simulated_fit, line, boot, side, boot).html
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [
        "Runs",
        "Fit",
        "Compute-optimal sizes",
        "Uncertainty: pairs bootstrap",
        "Intervals, side by side",
        "Uncertainty: pairs bootstrap (2)",
        "Checklist",
        "How to reproduce it",
    ]


def test_text_of_users_is_escaped(simulated, key):
    hostile = "<script>alert(1)</script>"
    runs, _ = simulated
    runs = js.Runs.from_arrays(
        N=runs.inputs["N"], D=runs.inputs["D"], loss=runs.loss, source=hostile
    )
    fit = js.fit(js.laws.chinchilla, runs, restarts=128, key=key)
    page = js.report(
        fit, title=f"Runs of {hostile}", said={"metric": hostile}, reproduce=f"cat {hostile}"
    )
    seen = read(page)
    assert "script" not in seen.tags
    assert "&lt;script&gt;" in page.html
    assert "<script>" not in page._repr_html_()


def test_a_fit_in_doubt_says_so_first(simulated, key):
    runs, _ = simulated
    fit = js.fit(js.laws.chinchilla, runs.take(np.arange(7)), restarts=64, key=key)
    assert not fit.verdict.ok
    page = js.report(fit).html
    assert page.index('class="verdict doubt"') < page.index("<h2>")


def test_it_is_written_whole(simulated_fit, tmp_path):
    made = js.report(simulated_fit)
    made.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == made.html
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_refusals(simulated_fit):
    with pytest.raises(js.DataError, match="results with a table"):
        js.report(simulated_fit, 3)
