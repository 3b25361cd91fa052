"""The table that ships with the package."""

import importlib.resources

import pandas as pd


def tiny_lm() -> pd.DataFrame:
    """Byte-level language models trained by this project; shipped with the package.

    One row per training run on CPython's standard library. ``params`` (N, with embeddings),
    ``tokens`` (D, bytes seen once), ``flops`` (6 N D), ``loss`` (held-out nats per byte), and how
    each run was trained. `tiny_lm.md` beside the table says how it was measured.

    Example:
        >>> runs = Runs.from_frame(datasets.tiny_lm(), N="params", D="tokens")
    """
    table = importlib.resources.files("jaxscale.datasets") / "tiny_lm.csv"
    with importlib.resources.as_file(table) as path:
        return pd.read_csv(path)
