"""What a reader is told to type works: the README's Python and every notebook."""

import re
import tomllib
from pathlib import Path

import cases
import matplotlib.image
import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest

import jaxscale as js

ROOT = Path(__file__).parents[1]
NUMBER = r"(?<![\w.])-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?%?"


def _value(text):
    return float(text.replace(",", "").rstrip("%"))


def test_readme_python_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    exec(blocks[0], names)
    printed = capsys.readouterr().out
    shown = re.search(r"prints\n\n```text\n(.*?)\n```", readme, re.DOTALL)[1]
    # Words to the letter; a last digit may differ between machines.
    assert re.sub(NUMBER, "#", printed).split() == re.sub(NUMBER, "#", shown).split()
    np.testing.assert_allclose(
        [_value(x) for x in re.findall(NUMBER, printed)],
        [_value(x) for x in re.findall(NUMBER, shown)],
        rtol=2e-3,
    )
    for block in blocks[1:]:
        exec(block, names)
    plt.close("all")  # what a reader would look at
    image = matplotlib.image.imread(tmp_path / "first_look.png")
    shipped = matplotlib.image.imread(ROOT / "notebooks" / "first_look.png")
    assert image.shape == shipped.shape
    assert np.mean(np.abs(image - shipped) > 0.1) < 0.02


def test_readme_quotes_the_measured_speed():
    measured = (ROOT / "tests" / "bench" / "RESULTS.md").read_text()
    cells = {cell.strip() for line in measured.splitlines() for cell in line.split("|")}
    table = (ROOT / "README.md").read_text().split("| work on 240 rows |")[1].split("\n\n")[0]
    quoted = [line.strip("|").split("|")[1:] for line in table.splitlines()[2:]]
    assert len(quoted) == 4
    assert {cell.strip() for row in quoted for cell in row} <= cells


def test_readme_lists_every_family_of_laws():
    readme = (ROOT / "README.md").read_text()
    families: dict[str, list[str]] = {}
    for name in js.laws.names():
        families.setdefault(js.laws.get(name).family, []).append(f"`{name}`")
    for family, names in families.items():
        assert f"| {family} | {', '.join(names)} |" in readme
    assert f"{len(js.published.names())} entries" in readme


def test_readme_has_two_setup_commands():
    assert len(re.findall(r"```sh\n", (ROOT / "README.md").read_text())) == 2


def test_citation_is_of_this_version():
    """The fields of a Citation File Format 1.2 that it must have, and those that can rot."""
    text = (ROOT / "CITATION.cff").read_text()
    fields = dict(re.findall(r"^([a-z-]+): ?(.*)$", text, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert fields["message"]
    assert fields["title"].strip('"').startswith("jaxscale")
    assert fields["type"] == "software"
    assert fields["version"] == js.__version__
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert fields["license"] == about["project"]["license"]
    keywords = re.findall(r"^  - (.*)$", text.split("keywords:")[1], re.MULTILINE)
    assert keywords == about["project"]["keywords"]
    assert "authors:\n  - name: The jaxscale developers\n" in text
    assert "CITATION.cff" in about["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def _notebooks():
    """Every notebook; those that take minutes say so in their metadata and run with the studies."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        about = nbformat.read(path, as_version=4).metadata.get("jaxscale", {})
        marks = [pytest.mark.slow] if about.get("slow") else []
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", list(_notebooks()))
def test_notebook_runs(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    for name in notebook.metadata.get("jaxscale", {}).get("needs", ()):  # skips without the rows
        monkeypatch.setenv("JAXSCALE_DATA", str(cases.data_path(name).resolve().parent))
    stored = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert any(stored), "the notebook was committed without its outputs"
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()


def test_readme_lists_the_published_fits_that_had_not_converged():
    readme = (ROOT / "README.md").read_text()
    table = js.published.not_converged()
    assert len(table) >= 10
    for row in table.itertuples():
        scores = f"{row.objective:.6g} | {row.better_objective:.6g}"
        assert f"| `{row.name}` | {scores} | {row.scored_on} |" in readme
        assert row.better_objective < row.objective
