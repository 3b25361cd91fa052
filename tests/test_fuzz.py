"""Whatever a file holds or a person types, the answer is a result or one sentence.

Never a traceback, never a file half-written. Examples are drawn by hypothesis from a fixed seed;
the same tests with many more of them are marked slow.
"""

import contextlib
import copy
import io
import json
import shutil
import sys
import warnings

import cases
import numpy as np
import pytest
from cases import examples
from hypothesis import given, strategies as st

import jaxscale as js
from jaxscale._cli import main

GOOD = "N,D,loss,w,model\n" + "".join(
    f"{n}e8,{d}e9,{2 + 1 / n + 1 / d:.4f},1,{'ab'[n % 2]}\n" for n in (1, 2, 5) for d in (1, 3, 8)
)
NASTY = [
    b"", b"nan", b"inf", b"-inf", b"1e999", b"1e-999", b"-1", b"0", b"9" * 400, b"1_0", b"1,5",
    b"x", b'"', b'""', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"\xff\xfe", "\u00e9".encode(), "\u2028".encode(), "\U0001f600".encode(),
    b"#", b"N", b"loss", b"NA", b"None", b"True", b"1e5j", b"0x10", b"2024-01-01", b" ",
    b",,,,,,,", b"{", b"=1+1",
]  # fmt: skip


def quick_and_slow(quick, slow, *strategies):
    """A property as two tests: a few examples, and, marked slow, many."""

    def tests(check):
        return (
            examples(quick)(given(*strategies)(check)),
            pytest.mark.slow(examples(slow)(given(*strategies)(check))),
        )

    return tests


def edits(content: bytes):
    """The content with up to five pieces replaced by something nasty."""
    edit = st.tuples(
        st.integers(0, len(content)),
        st.integers(0, 12),
        st.sampled_from(NASTY) | st.binary(max_size=4),
    )

    def apply(changes):
        changed = content
        for at, length, new in changes:
            changed = changed[:at] + new + changed[at + length :]
        return changed

    return st.lists(edit, min_size=1, max_size=5).map(apply)


def check_message(error, part, length=400):
    """It names the file, and is not as long as the file."""
    assert str(part) in str(error), error
    assert len(str(error)) < length, error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# Tables.

PLAIN = st.sampled_from(["1", "2.5", "1e9", "3", "0.7", "5e8"])
CELLS = st.sampled_from([x.decode("utf-8", "replace") for x in NASTY])
NAMES = st.sampled_from(["N", "D", "loss", "w", "model", "N ", "", "n", "Unnamed: 0", "N.1"])
WANTED = st.permutations(["N", "D", "loss", "w", "model"])


@st.composite
def grids(draw):
    """Any names over any cells, quoted or not, rows of any length."""
    width = draw(st.integers(1, 6))
    separator = draw(st.sampled_from([",", ";", "\t"]))
    names = draw(WANTED | st.lists(NAMES, min_size=width, max_size=width))
    cells = st.lists(PLAIN, min_size=len(names), max_size=len(names))
    ragged = st.lists(PLAIN | CELLS, min_size=1, max_size=len(names) + 1)
    rows = [names, *draw(st.lists(cells, max_size=6)), *draw(st.lists(ragged, max_size=1))]
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return "\n".join(separator.join(row) for row in rows).encode(encoding, "replace")


def check_table(folder, content, options):
    path = folder / "runs.csv"
    path.write_bytes(content)
    try:
        runs = js.Runs.from_csv(path, N="N", D="D", **options)
    except js.JaxscaleError as error:
        check_message(error, path, 2000)
        return
    assert len(runs) >= 1
    for values in (*runs.inputs.values(), runs.loss, runs.weight):
        assert np.isfinite(values).all()
        assert values.shape == (len(runs),)
    assert runs.weight.max() > 0
    assert js.Runs.from_frame(runs.frame(), N="N", D="D", duplicates="keep").digest()
    assert isinstance(repr(runs), str)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.just("w"),
        "cluster": st.just("model"),
        "duplicates": st.sampled_from(["error", "keep", "drop"]),
    },
)
TABLES = st.binary(max_size=300) | edits(GOOD.encode()) | grids()

test_a_table_of_anything, test_a_table_of_anything_at_length = quick_and_slow(
    300, 10_000, TABLES, OPTIONS
)(check_table)


# Saved fits.


@pytest.fixture(scope="module")
def saved(simulated_fit, folder):
    """Texts of a saved fit and of saved draws."""
    rng = np.random.default_rng(0)
    params = {
        name: float(x) * np.exp(0.01 * rng.normal(size=20))
        for name, x in simulated_fit.params.items()
    }
    draws = js.Draws(simulated_fit, "made up", params, np.full(20, 0.01), notes=("a note",))
    texts = []
    for result in (simulated_fit, draws):
        js.save(folder / "saved.json", result)
        texts.append((folder / "saved.json").read_text())
    return texts


def check_saved(path, used=True):
    """Loading gives a fit that can be used, or one sentence."""
    try:
        loaded = js.load(path)
    except js.LawError as error:
        check_message(error, "there is no law called")
        return
    except js.JaxscaleError as error:
        check_message(error, path)
        return
    if not used:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that overflow
        for use in (
            lambda: js.predict(loaded, N=1e9, D=1e11).frame(),
            lambda: js.allocate(loaded, flop=[1e20]).frame(),
            lambda: (repr(loaded), loaded._repr_html_(), repr(loaded.verdict)),
            lambda: js.save(path, loaded),
        ):
            try:
                use()
            except js.JaxscaleError as error:
                check_message(error, "")


def check_edited(folder, saved, which, data):
    path = folder / "edited.json"
    path.write_bytes(data.draw(edits(saved[which].encode())))
    try:
        before = json.loads(saved[which])
        unchanged = json.loads(path.read_bytes().decode()) == before
    except (ValueError, RecursionError):
        unchanged = False
    if unchanged:  # spaces only
        js.load(path)
        return
    with pytest.raises(js.JaxscaleError) as error:
        js.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


test_an_edited_fit_is_refused, test_an_edited_fit_is_refused_at_length = quick_and_slow(
    150, 3000, st.sampled_from([0, 1]), st.data()
)(check_edited)

VALUES = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 0.5, 1e308, -1e308, 5e-324, 10**400, "", "x", "N", "<b>",
        [], [1], {}, [[]], {"a": 1}, "\ud800", float("nan"), float("inf"), 10**12, "chinchilla",
        "power_law", "LogL1", [None], ["x", "y"],
    ]
)  # fmt: skip


def places(content, at=()):
    """Paths to every value of a JSON document."""
    yield at
    items = content.items() if isinstance(content, dict) else ()
    items = enumerate(content[:3]) if isinstance(content, list) else items
    for name, value in items:
        yield from places(value, (*at, name))


ACTIONS = ["change", "change", "replace", "remove", "nest", "swap"]


def alike(value):
    """Something of the same type, which is harder to notice."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, str):
        return st.text(max_size=5).map(lambda more: f"{value}<b>\n{more}") | st.text(max_size=5)
    if isinstance(value, int):
        return st.integers(-2, 10**6)
    factors = st.sampled_from([-1.0, 0.0, 0.5, 2.0, 1e3, 1e-300, 1e300])
    return factors.map(lambda factor: value * factor) | st.floats()


def check_forged(folder, saved, which, data):
    """A file changed by somebody who also computes the hash anew."""
    content = json.loads(saved[which])
    for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3]))):
        *way, last = data.draw(st.sampled_from([at for at in places(content) if at]))
        holder = content
        for name in way:
            holder = holder[name]
        action = data.draw(st.sampled_from(ACTIONS))
        if action == "change" and isinstance(holder[last], float | int | str):
            holder[last] = data.draw(alike(holder[last]))
            continue
        if action == "remove":
            del holder[last]
        elif action == "swap":
            *other, end = data.draw(st.sampled_from([at for at in places(content) if at]))
            value = content
            for name in (*other, end):
                value = value[name]
            holder[last] = copy.deepcopy(value)
        else:
            value = copy.deepcopy(data.draw(VALUES))
            holder[last] = [value] * 3 if action == "nest" else value
    path = folder / "forged.json"
    path.write_text(json.dumps(content))
    cases.rewrite(path, lambda _: None)
    check_saved(path)


test_a_forged_fit_is_used_or_refused, test_a_forged_fit_is_used_or_refused_at_length = (
    quick_and_slow(100, 2000, st.sampled_from([0, 1]), st.data())(check_forged)
)


def check_any_json(folder, content):
    path = folder / "any.json"
    path.write_bytes(content)
    check_saved(path, used=False)


def nested(inner):
    """Lists and objects, some with the names that a saved fit has."""
    names = st.sampled_from(["format", "law", "params", "a"])
    return st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(LEAVES, nested, max_leaves=20).map(lambda value: json.dumps(value).encode())

test_a_fit_of_anything, test_a_fit_of_anything_at_length = quick_and_slow(
    150, 3000, st.binary(max_size=200) | JSON
)(check_any_json)


def test_nesting_without_end_is_refused(folder):
    for text in ("[" * 200_000, '{"format":' * 50_000, '{"format": ' + "[" * 900 + "]" * 900 + "}"):
        check_any_json(folder, text.encode())
        (folder / "runs.csv").write_text(text)
        with pytest.raises(js.JaxscaleError):
            js.Runs.from_csv(folder / "runs.csv", N="N", D="D")


# The command.

VERBS = [
    "fit",
    "intervals",
    "posterior",
    "audit",
    "laws",
    "datasets",
    "predict",
    "allocate",
    "x",
    "",
]
SLOW = ("intervals", "posterior", "audit")
FILES = [
    "runs.csv",
    "bad.csv",
    "few.csv",
    "fit.json",
    "draws.json",
    "nowhere",
    ".",
    "",
    "\udcff.csv",
]
WORDS = st.sampled_from(
    [
        "N", "D", "loss", "w", "", "nan", "-1", "0", "1", "1e9", "1B", "70B,1e9", "1e999", "9" * 30,
        "a=0.4:0.5", "alpha", "x=1", "N=N", "chinchilla", "power_law", "chinchila", "=", ",", "\n",
        "\udcff", "\x1b[31m", "keep", "2", "0.5", "tiny_lm", "--", "-", "out", "runs.csv", "\u00e9",
    ]
) | st.text(st.characters(exclude_characters="\0"), max_size=8)  # fmt: skip
FLAGS = st.sampled_from(
    [
        "--law", "--loss", "--N", "--D", "--x", "--input", "--weight", "--drop-top", "--duplicates",
        "--delta", "--by", "--level", "--seed", "--flop", "--quantity", "--method", "--claim",
        "--claim-level", "--published", "--option", "--likelihood", "--scale-by", "--outliers",
        "--help", "--version", "--nothing",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def place(saved, tmp_path_factory):
    """A folder with good and bad files, which is the working directory."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "runs.csv").write_text(GOOD)
    (folder / "bad.csv").write_text(GOOD.replace("2e8", "2e8 tokens"))
    (folder / "few.csv").write_text("\n".join(GOOD.splitlines()[:4]))
    (folder / "fit.json").write_text(saved[0])
    (folder / "draws.json").write_text(saved[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        patch.setenv("JAXSCALE_DATA", "http://127.0.0.1:9")  # nobody answers there
        patch.setenv("COLUMNS", "80")
        yield folder


def call(*words):
    """Exit code, standard output and error of one command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxscale", *words])
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as stop,
        ):
            main()
    return stop.value.code or 0, out.getvalue(), err.getvalue()


@st.composite
def commands(draw):
    """A verb, a file and options that mostly make no sense. Verbs that take long get no good table,
    and none of these commands names a file to write."""
    verb, file = draw(st.sampled_from(VERBS)), draw(st.sampled_from(FILES))
    if verb in SLOW and file == "runs.csv":
        file = "few.csv"
    pairs = draw(st.lists(st.tuples(FLAGS, WORDS), max_size=4))
    words = [verb, file, *(word for pair in pairs for word in pair)]
    return words + ["--restarts", "16"] * (verb in ("fit", *SLOW))


def check_command(place, words):
    before = {path.name for path in place.iterdir()}
    code, _, err = call(*words)
    assert code in (0, 2), (words, err)
    if code == 2:
        assert err.startswith("jaxscale: ") == (err.count("\n") == 1), (words, err)
        assert {path.name for path in place.iterdir()} == before
    assert not list(place.rglob(".*"))  # what is left of a file that was being written
    shutil.rmtree(place / "jaxscale-fit", ignore_errors=True)


test_any_command, test_any_command_at_length = quick_and_slow(60, 1500, commands())(check_command)


def check_file_in_command(place, content):
    """Of the rows of a table that is none, or no longer what it was, one sentence, or a fit."""
    path = place / "given.csv"
    path.write_bytes(content)
    try:
        check_command(place, ["fit", "given.csv", "--restarts", "16", "--duplicates", "keep"])
    finally:
        path.unlink()


test_any_table_in_the_command, test_any_table_in_the_command_at_length = quick_and_slow(
    20, 300, edits(GOOD.encode()) | grids()
)(check_file_in_command)
