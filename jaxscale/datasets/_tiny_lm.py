"""The study of tiny language models that this project measured and ships.

`tiny_lm_study` beside this module is the program that measured it, `tiny_lm.md` its description.
"""

import importlib.resources
import json
from typing import Any

import pandas as pd

_UNITS = {
    "budget": "FLOP, 6 x params x tokens as planned",
    "params": "parameters, embedding included",
    "params_nonembedding": "parameters",
    "tokens": "bytes, each seen once",
    "flop": "FLOP, counted",
    "loss": "nats per held-out byte",
    "lr": "peak learning rate",
    "batch": "bytes per step",
    "minutes": "CPU minutes of training",
}


def load_tiny_lm(*, checkpoints: bool = False) -> pd.DataFrame:
    """Byte-level language models trained on Python source by this project; one row per run.

    An isoFLOP design: on each curve N varies and D = C / (6 N), with repeated seeds in many
    cells. ``params`` (N, with embeddings), ``tokens`` (D), ``flop`` (counted, with attention),
    ``loss`` (held-out nats per byte), and how each run was trained; `tiny_lm.md` beside the table
    describes it. ``.attrs`` holds source, license, citation, units, and the corpus with its
    hashes.

    Args:
        checkpoints: add the rows measured during the runs (``checkpoint`` is true there). The
            learning rate had not decayed yet, so their loss is above that of a finished run of
            the same N and D.

    Example:
        >>> runs = Runs.from_frame(datasets.load_tiny_lm(), N="params", D="tokens")
    """
    frame = _read("tiny_lm.csv")
    if not checkpoints:
        frame = frame[~frame["checkpoint"]].reset_index(drop=True)
    return frame


def load_tiny_lm_sweep() -> pd.DataFrame:
    """The runs from which the learning rate of each shape in `load_tiny_lm` was chosen.

    The columns of `load_tiny_lm`. Of each width and depth, the rate with the lowest loss was taken.

    Example:
        >>> datasets.load_tiny_lm_sweep().groupby(["width", "depth"])["loss"].min()
    """
    return _read("tiny_lm_sweep.csv")


def _read(name: str) -> pd.DataFrame:
    folder = importlib.resources.files("jaxscale.datasets")
    with importlib.resources.as_file(folder / name) as path:
        frame = pd.read_csv(path)
    frame.attrs.update(_about(json.loads((folder / "tiny_lm.json").read_text(encoding="utf-8"))))
    return frame


def _about(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": "measured by jaxscale: python -m jaxscale.datasets.tiny_lm_study",
        "license": "Apache-2.0, as jaxscale; the corpus itself is not part of it",
        "citation": "jaxscale, tiny_lm: a scaling study of byte-level models of Python source",
        "units": dict(_UNITS),
        "corpus": record,
    }
