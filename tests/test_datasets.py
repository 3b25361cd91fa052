"""Tables of runs that are fetched: nothing goes unchecked.

The originals are served by a small server of this machine. No test reaches another.
"""

import contextlib
import functools
import http.server
import socket
import threading

import cases
import numpy as np
import pandas as pd
import pooch
import pytest

import jaxscale as js
from jaxscale.datasets._public import CHINCHILLA, PUBLIC

# The tidy twin of each table, by how the loader names its columns.
TWINS = {
    "chinchilla": ("chinchilla_epoch.csv", {"loss_nats": "loss"}),
    "clark_routed": ("clark_routed_final.csv", {}),
    "step_law_dense": (
        "steplaw_dense.csv", {"loss_nats": "loss", "smooth_loss_nats": "smooth_loss"},
    ),
    "step_law_moe": (
        "steplaw_moe.csv", {"loss_nats": "loss", "smooth_loss_nats": "smooth_loss"},
    ),
    "openclip": ("openclip_zeroshot.csv", {}),
    "misfitting": ("misfitting_final.csv", {"loss_nats": "loss", "flops_6nd": "flops"}),
}  # fmt: skip


# Fetched tables, from a local mirror of the originals.


@pytest.fixture
def originals(monkeypatch):
    """The folder of original files; JAXSCALE_DATA names the one that holds it."""
    folder = cases.data_path("original/README.md").parent
    monkeypatch.setenv("JAXSCALE_DATA", str(folder.parent))
    return folder


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache in place of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder)
    return folder


@pytest.mark.parametrize("source", PUBLIC, ids=lambda source: source.name)
def test_a_fetched_table_is_its_tidy_twin(originals, source):
    frame = js.datasets.get(source.name)()
    file, names = TWINS[source.name]
    twin = pd.read_csv(cases.data_path(file)).rename(columns=names)
    if source.name == "chinchilla":  # the twin flags what drop_top=5 drops
        flag = twin.pop("dropped_by_besiroglu")
        fewer = js.datasets.fetch_chinchilla(drop_top=5)
        pd.testing.assert_frame_equal(
            fewer, frame[flag == 0].reset_index(drop=True), check_exact=True
        )
    assert set(frame.columns) == set(twin.columns)
    twin = twin[list(frame.columns)]
    if source.name == "misfitting":  # integers beyond 64 bits
        twin["flops"] = twin["flops"].astype(float)
    # The twins are written with ten significant digits.
    pd.testing.assert_frame_equal(frame, twin, check_dtype=False, rtol=1e-9, atol=0)
    assert len(frame) == source.rows


@pytest.mark.parametrize("source", PUBLIC, ids=lambda source: source.name)
def test_a_fetched_table_says_whence_it_comes(originals, source):
    about = js.datasets.get(source.name)().attrs
    assert about["url"].startswith(f"https://raw.githubusercontent.com/{about['source'][11:]}/")
    commit = about["url"].split("/")[5]
    assert len(commit) == 40
    assert int(commit, 16) > 0
    assert "arXiv" in about["citation"]
    assert about["license"]
    assert list(about["units"]) == list(js.datasets.get(source.name)().columns)
    assert all(about["units"].values())


def test_chinchilla_gives_the_published_fit(originals, chinchilla_runs):
    frame = js.datasets.fetch_chinchilla(drop_top=5)
    runs = js.Runs.from_frame(frame, N="params", D="tokens")
    np.testing.assert_allclose(runs.loss, chinchilla_runs.loss, rtol=1e-15)
    np.testing.assert_allclose(frame["flops"], 6 * frame["params"] * frame["tokens"], rtol=1e-14)


def test_named_cleaning_keeps_what_it_says(originals):
    fetch = js.datasets
    subset = fetch.fetch_clark_routed(subset="published")
    counts = subset["router_type"].value_counts().to_dict()
    assert counts == {"Dense": 5, "S-Base": 53, "RL-R": 54, "Hash": 51}
    assert set(subset.query("router_type == 'Dense'")["model_size_label"]) == {
        "15M", "25M", "55M", "370M", "1.3B",
    }  # fmt: skip
    assert len(fetch.fetch_clark_routed(checkpoints="all")) == 5799

    dense = fetch.fetch_step_law_dense()
    stable = fetch.fetch_step_law_dense(diverged="drop")
    assert len(dense) - len(stable) == 181
    assert stable["smooth_loss"].max() <= 4
    best = fetch.fetch_step_law_dense(runs="best")
    least = dense.groupby(["params_nonembedding", "tokens"])["smooth_loss"].min()
    assert sorted(best["smooth_loss"]) == sorted(least)
    assert len(best) == 17
    assert len(fetch.fetch_step_law_moe(runs="best")) == 16

    assert len(fetch.fetch_openclip(downstream="all")) == 1312
    assert set(fetch.fetch_openclip(downstream="imagenet1k")["downstream_dataset"]) == {
        "imagenet1k"
    }

    assert len(fetch.fetch_misfitting(learning_rates="best")) == 81
    assert len(fetch.fetch_misfitting(duplicates="drop")) == 253
    with pytest.raises(js.DataError, match="duplicates='keep'"):
        js.Runs.from_frame(fetch.fetch_misfitting(), N="params", D="tokens")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("chinchilla", {"drop_top": 245}, "0 to 244"),
        ("chinchilla", {"drop_top": "5"}, "'5'"),
        ("clark_routed", {"subset": "some"}, "'published'"),
        ("clark_routed", {"checkpoints": 1}, "'last'"),
        ("step_law_dense", {"diverged": "no"}, "'drop'"),
        ("step_law_moe", {"runs": "worst"}, "'best'"),
        ("openclip", {"downstream": ["imagenet"]}, "'imagenet1k'"),
        ("misfitting", {"learning_rates": None}, "'best'"),
    ],
)
def test_cleaning_that_does_not_exist_is_refused(originals, name, options, said):
    with pytest.raises(js.DataError, match=said):
        js.datasets.get(name)(**options)


def test_the_table_of_tables(originals):
    table = js.datasets.table().set_index("name")
    assert list(table.index) == list(js.datasets.names())
    assert table.loc["tiny_lm", "where"] == "shipped"
    for name, row in table.iterrows():
        frame = js.datasets.get(name)()
        assert row["rows"] == len(frame)
        assert row["columns"] == ", ".join(frame.columns)
        assert row["license"]
        assert row["source"]
    with pytest.raises(js.DataError, match="did you mean chinchilla"):
        js.datasets.get("chinchila")


def test_a_wrong_file_in_the_mirror_is_refused_and_left_alone(monkeypatch, tmp_path):
    (tmp_path / "original").mkdir()
    wrong = tmp_path / "original" / CHINCHILLA.file
    wrong.write_text("not the file")
    monkeypatch.setenv("JAXSCALE_DATA", str(tmp_path))
    with pytest.raises(js.DataError, match="not the file that JAXSCALE_DATA should hold") as error:
        js.datasets.fetch_chinchilla()
    for part in (str(wrong), CHINCHILLA.url):
        assert part in str(error.value)
    assert wrong.read_text() == "not the file"


# The network, as a server of this machine.


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, spoiling every answer as its server says."""

    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.folder.joinpath(self.path.lstrip("/")).read_bytes()
        spoil = self.server.spoil
        if spoil == "404":
            self.send_error(404)
            return
        self.send_response(200)
        sent = {"truncated": content[:-100], "changed": content[:-1] + b"!"}.get(spoil, content)
        self.send_header("Content-Length", str(len(content) if spoil == "broken" else len(sent)))
        self.end_headers()
        self.wfile.write(sent[: len(sent) // 2] if spoil == "broken" else sent)

    def log_message(self, *_):
        """Quietly."""


@contextlib.contextmanager
def _serving(folder, spoil=""):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.folder, server.spoil, server.asked = folder, spoil, []
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.02))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def network(monkeypatch, originals, cache):
    """``network(spoil)`` serves the originals, at the address that JAXSCALE_DATA then names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:

        def serve(spoil=""):
            server = stack.enter_context(_serving(originals, spoil))
            monkeypatch.setenv("JAXSCALE_DATA", f"http://127.0.0.1:{server.server_port}/")
            return server

        yield serve


@pytest.mark.parametrize("source", PUBLIC, ids=lambda source: source.name)
def test_a_download_is_made_once_and_checked(network, originals, cache, source):
    server = network()
    first = js.datasets.get(source.name)()
    assert len(first) == source.rows
    assert [path.name for path in cache.iterdir()] == [source.file]
    assert (cache / source.file).read_bytes() == (originals / source.file).read_bytes()
    pd.testing.assert_frame_equal(js.datasets.get(source.name)(), first)
    assert server.asked == [f"/{source.file}"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("truncated", "cut off or changed"),
        ("changed", "cut off or changed"),
        ("broken", "the download failed"),
        ("404", "HTTP 404"),
    ],
)
def test_a_bad_download_is_said_in_one_sentence_and_not_kept(network, cache, spoil, said):
    server = network(spoil)
    with pytest.raises(js.DataError, match=said) as error:
        js.datasets.fetch_chinchilla()
    message = str(error.value)
    assert "\n" not in message
    for part in (CHINCHILLA.file, CHINCHILLA.url, "JAXSCALE_DATA", str(server.server_port)):
        assert part in message
    assert list(cache.iterdir()) == []
    network()  # the next try is not troubled by the last
    assert len(js.datasets.fetch_chinchilla()) == 245


def test_without_a_network_the_message_says_what_to_do(monkeypatch, cache, network):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("JAXSCALE_DATA", f"http://127.0.0.1:{port}")
    with pytest.raises(js.DataError, match="is there a network") as error:
        js.datasets.fetch_step_law_moe()
    assert "put it into a folder and set JAXSCALE_DATA" in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(network, cache):
    cache.mkdir()
    (cache / CHINCHILLA.file).write_text("half a fi")
    server = network()
    assert len(js.datasets.fetch_chinchilla()) == 245
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written(network, cache):
    cache.write_text("a file where the folder should be")
    network()
    with pytest.raises(js.DataError, match="cannot be kept there") as error:
        js.datasets.fetch_chinchilla()
    assert str(cache) in str(error.value)
    assert "JAXSCALE_DATA" in str(error.value)
    assert cache.read_text() == "a file where the folder should be"


def test_the_public_address_is_used_without_a_mirror(monkeypatch, cache):
    """What pooch would be asked, without asking it."""
    asked = {}

    def retrieve(url, **options):
        asked.update(options, url=url)
        raise ValueError

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    for mirror in ("", str(cache)):  # a mirror without the file
        monkeypatch.setenv("JAXSCALE_DATA", mirror)
        with pytest.raises(js.DataError):
            js.datasets.fetch_chinchilla()
        assert asked["url"] == CHINCHILLA.url
        assert asked["known_hash"] == f"sha256:{CHINCHILLA.sha256}"
        assert asked["path"] == cache


# The command.


def test_the_command_writes_a_table_that_fit_reads(run, originals, tmp_path):
    code, out, err = run(
        "datasets", "chinchilla", "--option", "drop_top=5", "--out", "deep/runs.csv"
    )
    assert (code, err) == (0, "")
    assert "240 rows" in out
    assert "Besiroglu et al. 2024" in out
    assert "license" in out.lower()
    written = pd.read_csv(tmp_path / "deep" / "runs.csv")
    frame = js.datasets.fetch_chinchilla(drop_top=5)
    pd.testing.assert_frame_equal(written, frame, rtol=1e-14, atol=0)
    runs = js.Runs.from_csv(tmp_path / "deep" / "runs.csv", N="params", D="tokens")
    assert len(runs) == 240


def test_the_command_lists_and_describes(run, cache, monkeypatch):
    monkeypatch.setenv("JAXSCALE_DATA", "")
    code, out, err = run("datasets")
    assert (code, err) == (0, "")
    for name in js.datasets.names():
        assert name in out
    code, out, err = run("datasets", "misfitting")
    assert (code, err) == (0, "")
    for part in ("--option NAME=VALUE", "learning_rates:", "Cite:", "License: none stated"):
        assert part in out
    assert "Raises" not in out
    assert not cache.exists()  # nothing was fetched to say so


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chinchila"], "did you mean chinchilla"),
        (["--out", "x.csv"], "name a data set first"),
        (["chinchilla", "--option", "drop_top"], "--option drop_top=5"),
        (["chinchilla", "--option", "top=5"], "takes drop_top"),
        (["chinchilla", "--option", "drop_top=five", "--out", "x.csv"], "not a whole number"),
        (["chinchilla", "--option", "drop_top=999", "--out", "x.csv"], "0 to 244"),
        (["openclip", "--option", "downstream=cats", "--out", "x.csv"], "'cats'"),
        (["tiny_lm", "--option", "seed=1"], "takes checkpoints"),
        (["tiny_lm", "--option", "checkpoints=1", "--out", "x.csv"], "checkpoints=true"),
        (["tiny_lm", "--out", "."], "is a folder"),
    ],
)
def test_the_command_refuses(run, originals, tmp_path, arguments, said):
    code, out, err = run("datasets", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_without_a_network(run, network, tmp_path):
    network("404")
    code, out, err = run("datasets", "chinchilla", "--out", "x.csv")
    assert (code, out) == (2, "")
    assert "HTTP 404" in err
    assert not (tmp_path / "x.csv").exists()
