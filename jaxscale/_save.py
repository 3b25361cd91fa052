"""Save and load fits and draws as JSON: readable, exact to the last digit, never pickle."""

import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale import laws
from jaxscale._draws import Draws
from jaxscale._errors import DataError, JaxscaleError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._objective import OBJECTIVES, Objective
from jaxscale._restarts import Restarts
from jaxscale._runs import Runs
from jaxscale._verdict import Finding, Verdict

_FORMAT = "jaxscale-fit-1"


def write_text(path: str | Path, text: str) -> None:
    """Write a text file completely or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save(path: str | Path, fit: Fit | Draws) -> None:
    """Write a fit of one data set, or draws around one, as JSON: with versions and a hash of the
    data, not the data.

    Numbers are written so that reading them back gives the same bits (17 digits where needed).

    Raises:
        DataError: for a stack, whose members are saved one by one, or for draws that carry a noise
            of their own, which a text of numbers cannot hold.
    """
    write_text(path, to_json(fit))


def to_json(source: Fit | Draws) -> str:
    """The text that `save` writes."""
    draws = source if isinstance(source, Draws) else None
    fit = source.fit if isinstance(source, Draws) else source
    if fit.sets is not None:
        raise DataError("save the fits of a stack one by one: save(path, fit[name])")
    content = {
        "format": _FORMAT,
        "law": fit.law.name,
        "formula": fit.law.formula,
        "params": {name: float(value) for name, value in fit.params.items()},
        "objective": {"name": type(fit.objective).__name__, **_fields(fit.objective)},
        "value": float(fit.value),
        "rmse": float(fit.rmse),
        "verdict": [
            {"code": f.code, "sentence": f.sentence, "names": list(f.names)}
            for f in fit.verdict.findings
        ],
        "restarts": {
            "n": len(fit.restarts),
            "hit_share": fit.restarts.hit_share,
            "tolerance": fit.restarts.tolerance,
            "floor": fit.restarts.floor,
            "basins": _records(fit.restarts.basins),
        },
        "data": {
            "source": fit.runs.source if fit.runs is not None else "",
            "runs": int(fit.n_runs),
            "sha256": fit.digest,
            "ranges": {name: [float(a), float(b)] for name, (a, b) in fit.ranges.items()},
        },
        "reference": {
            "free": [float(x) for x in np.asarray(fit.free)],
            "log_refs": {name: float(ref) for name, ref in fit.log_refs.items()},
        },
        "versions": _versions(),
    }
    if draws is not None:
        content["draws"] = _draws_content(draws)
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _draws_content(draws: Draws) -> dict[str, Any]:
    if draws.noise is not None:
        raise DataError(
            "these draws carry a noise model of their own, which a draws.json cannot hold; save "
            'the posterior itself: post.save("posterior.nc")'
        )
    return {
        "method": draws.method,
        "params": {name: np.asarray(v, float).tolist() for name, v in draws.params.items()},
        "scale": np.asarray(draws.scale, float).tolist(),
        "center": draws.center,
        "value": None if draws.value is None else np.asarray(draws.value, float).tolist(),
        "failed": draws.failed,
        "notes": list(draws.notes),
        "doubt": draws.doubt,
    }


def load(path: str | Path, *, runs: Runs | None = None, law: Law | None = None) -> Fit | Draws:
    """Read a fit, or draws, back: whichever was saved.

    Args:
        path: a file written by `save`.
        runs: the data, for whatever needs it (residuals, plots, resampling); its hash is checked.
        law: the law, if it is not in the catalogue.

    Raises:
        JaxscaleError: if the file is not a saved fit.
        DataError: if `runs` are not the ones that were fitted.
        LawError: if the law is neither in the catalogue nor given.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise JaxscaleError(f"{path}: written as {content['format']!r}, not {_FORMAT!r}")
    except FileNotFoundError:
        raise JaxscaleError(f"{path}: there is no such file") from None
    except (OSError, UnicodeError, json.JSONDecodeError, KeyError, TypeError):
        raise JaxscaleError(f"{path}: this is not a fit saved by jaxscale") from None
    try:
        fit = _from_content(content, runs, law, path)
        return _draws_from(content["draws"], fit) if "draws" in content else fit
    except (DataError, LawError):
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise JaxscaleError(f"{path}: the saved fit is damaged ({error})") from None


def _from_content(content: dict[str, Any], runs: Runs | None, law: Law | None, path: Path) -> Fit:
    data = content["data"]
    if runs is not None and runs.digest() != data["sha256"]:
        raise DataError(f"{path}: these are not the runs that were fitted (their hash differs)")
    chosen = laws.get(content["law"]) if law is None else law
    if chosen.name != content["law"]:
        raise LawError(f"{path}: holds a fit of {content['law']!r}, not of {chosen.name!r}")
    _check_numbers(content, chosen)
    fields = dict(content["objective"])
    objective = OBJECTIVES[fields.pop("name")](**fields)
    basins = pd.DataFrame(content["restarts"]["basins"])
    values = np.repeat(basins["objective"].to_numpy(float), basins["restarts"].to_numpy(int))
    return Fit(
        law=chosen,
        objective=objective,
        params={name: jnp.asarray(value, float) for name, value in content["params"].items()},
        value=content["value"],
        verdict=Verdict(tuple(_finding(**finding) for finding in content["verdict"])),
        restarts=Restarts(
            values,
            np.zeros(len(values), int),
            content["value"],
            basins,
            content["restarts"]["tolerance"],
            content["restarts"]["floor"],
        ),
        runs=runs,
        ranges={name: (low, high) for name, (low, high) in data["ranges"].items()},
        n_runs=data["runs"],
        digest=data["sha256"],
        free=np.asarray(content["reference"]["free"]),
        log_refs=content["reference"]["log_refs"],
        rmse=content["rmse"],
    )


def _finding(code: str, sentence: str, names: Iterable[str] = ()) -> Finding:
    return Finding(code, sentence, tuple(names))  # older files have no names


def _draws_from(content: dict[str, Any], fit: Fit) -> Draws:
    params = {name: np.asarray(content["params"][name], float) for name in fit.law.names}
    columns = [*params.values(), np.asarray(content["scale"], float)]
    if {x.ndim for x in columns} != {1} or len({x.shape for x in columns}) != 1:
        raise ValueError("its draws differ in number")
    if len(columns[0]) < 2 or not np.isfinite(columns).all() or (columns[-1] < 0).any():
        raise ValueError("its draws are too few, not finite or of negative scale")
    value, notes = content["value"], content["notes"]
    doubt = content.get("doubt", "")  # older files have none
    texts = [doubt, *notes]
    if content["center"] not in ("fit", "median") or not all(isinstance(x, str) for x in texts):
        raise ValueError("it does not say what its draws are centered on, or has no notes")
    return Draws(
        fit=fit,
        method=content["method"],
        params=params,
        scale=columns[-1],
        center=content["center"],
        value=None if value is None else np.asarray(value, float),
        failed=content["failed"],
        notes=tuple([*notes] if isinstance(notes, list) else [notes]),
        doubt=doubt,
    )


def _check_numbers(content: dict[str, Any], law: Law) -> None:
    """Names and finite numbers where later steps rely on them."""
    if set(content["params"]) != set(law.names):
        raise ValueError(f"its parameters are not {', '.join(law.names)}")
    if len(content["reference"]["free"]) != len(law.names):
        raise ValueError("it lacks a coordinate")
    ranges = content["data"]["ranges"]
    if set(ranges) != set(law.inputs) or any(len(ends) != 2 for ends in ranges.values()):
        raise ValueError(f"it lacks the range of an input ({', '.join(law.inputs)})")
    numbers = [*content["params"].values(), *np.ravel(list(ranges.values())), content["value"]]
    if not np.isfinite(np.asarray(numbers, float)).all():
        raise ValueError("a number is not finite")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values, with null for what JSON cannot say."""

    def plain(cell: Any) -> Any:
        cell = cell.item() if isinstance(cell, np.generic) else cell
        return None if isinstance(cell, float) and not np.isfinite(cell) else cell

    return [{name: plain(cell) for name, cell in row.items()} for row in table.to_dict("records")]


def _fields(objective: Objective) -> dict[str, float]:
    return {name: float(value) for name, value in vars(objective).items()}


def _versions() -> dict[str, str]:
    packages = ("jaxscale", "jax", "jaxlib", "optax", "numpy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # running from a source tree
            continue
    return found
