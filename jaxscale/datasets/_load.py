"""Loaders. Most published tables carry no licence, so they are downloaded, not shipped."""

import pandas as pd

_CHINCHILLA_URL = (
    "https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/"
    "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv"
)
_CHINCHILLA_SHA256 = "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30"


def chinchilla_epoch() -> pd.DataFrame:
    """245 training runs of Hoffmann et al. 2022, read off their Figure 4 by Besiroglu et al. 2024.

    Downloaded once and checked (SHA-256). ``params`` (N), ``flops`` (C), ``tokens`` (D, derived as
    C / (6 N)), ``loss`` (nats per token). Besiroglu et al. drop the five highest losses:
    ``drop_top(runs, 5)``.

    Source: arXiv 2404.10102, data of github.com/epoch-research/analyzing-chinchilla.
    """
    import pooch

    path = pooch.retrieve(
        _CHINCHILLA_URL, known_hash=f"sha256:{_CHINCHILLA_SHA256}", path=pooch.os_cache("jaxscale")
    )
    return tidy_chinchilla(pd.read_csv(path))


def tidy_chinchilla(raw: pd.DataFrame) -> pd.DataFrame:
    """The columns of the extraction that a fit needs, under the field's names."""
    table = pd.DataFrame(
        {
            "params": raw["Model Size"],
            "flops": raw["Training FLOP"],
            "loss": raw["loss"],
        }
    )
    table.insert(1, "tokens", table["flops"] / (6 * table["params"]))
    return table
