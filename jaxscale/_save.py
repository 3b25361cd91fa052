"""Save and load fits and draws as JSON: readable, exact to the last digit, never pickle.

A file holds the hash of its own content, so that an edit is noticed. The hash is no signature: who
means to deceive can compute it. So whatever is read is also checked, number by number.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
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
_HASH = "content_sha256"
_MOST_RESTARTS = 10**8  # more than any fit has; a file that claims more would fill the memory
# What a file that is not what it should be makes Python raise.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file completely or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # before the name points to it, even if the power fails
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:  # about the file that was asked for, not the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error


def save(path: str | Path, fit: Fit | Draws) -> None:
    """Write a fit of one data set, or draws around one, as JSON: with versions, a hash of the data
    (not the data) and a hash of the content, which `load` checks.

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
        "versions": versions(),
    }
    if draws is not None:
        content["draws"] = _draws_content(draws)
    content[_HASH] = _digest(content)
    try:
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError:
        raise DataError("this fit has a number that is not finite; there is no use in it") from None


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of all but itself, in whatever order or with whatever spaces it is written."""
    held = {name: value for name, value in content.items() if name != _HASH}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


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
        JaxscaleError: if the file is not a saved fit, or was changed after it was written.
        DataError: if `runs` are not the ones that were fitted.
        LawError: if the law is neither in the catalogue nor given.
    """
    path = Path(path)
    content = _content(path)
    try:
        fit = _from_content(content, runs, law, path)
        return _draws_from(content["draws"], fit) if "draws" in content else fit
    except (DataError, LawError):
        raise
    except _DAMAGE as error:
        raise JaxscaleError(f"{path}: the saved fit is damaged{_reason(error)}") from None


def _content(path: Path) -> dict[str, Any]:
    """What the file says, if it says it as jaxscale wrote it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        written = content["format"]
        unchanged = written != _FORMAT or content[_HASH] == _digest(content)
    except FileNotFoundError:
        raise JaxscaleError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise JaxscaleError(f"{path}: this is a folder; name the fit.json in it") from None
    except OSError as error:
        raise JaxscaleError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGE:
        raise JaxscaleError(f"{path}: this is not a fit saved by jaxscale") from None
    if written != _FORMAT:
        raise JaxscaleError(f"{path}: written as {_short(repr(written))}, not {_FORMAT!r}")
    if not unchanged:
        raise JaxscaleError(
            f"{path}: was changed after jaxscale wrote it (the content does not match its hash); "
            "fit again, or get the file as it was written"
        )
    return dict(content)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    """What is wrong with a file, unless only Python's own words say it."""
    if isinstance(error, KeyError):
        return f" (it lacks {_short(error)})"
    return f" ({_short(error)})" if type(error) is ValueError else ""


def _short(said: Any) -> str:
    """A message in one line of readable length."""
    text = " ".join(str(said).split())
    return text if len(text) <= 100 else f"{text[:100]}..."


def _from_content(content: dict[str, Any], runs: Runs | None, law: Law | None, path: Path) -> Fit:
    data = content["data"]
    if runs is not None and runs.digest() != data["sha256"]:
        raise DataError(f"{path}: these are not the runs that were fitted (their hash differs)")
    chosen = laws.get(content["law"]) if law is None else law
    if chosen.name != content["law"]:
        raise LawError(f"{path}: holds a fit of {content['law']!r}, not of {chosen.name!r}")
    _check_names(content, chosen)
    fields = {name: _field(value) for name, value in content["objective"].items()}
    objective = OBJECTIVES[fields.pop("name")](**fields)
    best = _number(content["value"])
    return Fit(
        law=chosen,
        objective=objective,
        params={
            name: jnp.asarray(_number(value), float) for name, value in content["params"].items()
        },
        value=best,
        verdict=Verdict(tuple(_finding(**finding) for finding in content["verdict"])),
        restarts=_restarts(content["restarts"], best),
        runs=runs,
        ranges={
            name: (_number(low), _number(high)) for name, (low, high) in data["ranges"].items()
        },
        n_runs=_count(data["runs"]),
        digest=_text(data["sha256"]),
        free=np.asarray([_number(x) for x in content["reference"]["free"]]),
        log_refs={name: _number(x) for name, x in content["reference"]["log_refs"].items()},
        rmse=_number(content["rmse"]),
    )


def _restarts(content: dict[str, Any], best: float) -> Restarts:
    basins = pd.DataFrame(content["basins"])
    counts = [_count(n) for n in basins["restarts"].tolist()]
    if sum(counts) != content["n"] or sum(counts) > _MOST_RESTARTS:
        raise ValueError("its optima do not add up to its restarts")
    if not all(isinstance(x, str) for name in ("kind", "dead") for x in basins[name]):
        raise ValueError("it does not name its optima")
    values = np.repeat(basins["objective"].to_numpy(float), counts)
    return Restarts(
        values,
        np.zeros(len(values), int),
        best,
        basins,
        _number(content["tolerance"], 0),
        _number(content["floor"], 0),
    )


def _draws_from(content: dict[str, Any], fit: Fit) -> Draws:
    params = {name: np.asarray(content["params"][name], float) for name in fit.law.names}
    columns = [*params.values(), np.asarray(content["scale"], float)]
    value = None if content["value"] is None else np.asarray(content["value"], float)
    of_draws = [*columns, *([] if value is None else [value])]
    if {x.ndim for x in of_draws} != {1} or len({x.shape for x in of_draws}) != 1:
        raise ValueError("its draws differ in number")
    if len(columns[0]) < 2 or not np.isfinite(columns).all() or (columns[-1] < 0).any():
        raise ValueError("its draws are too few, not finite or of negative scale")
    if content["center"] not in ("fit", "median") or not isinstance(content["notes"], list):
        raise ValueError("it does not say what its draws are centered on, or has no notes")
    return Draws(
        fit=fit,
        method=_text(content["method"]),
        params=params,
        scale=columns[-1],
        center=content["center"],
        value=value,
        failed=_count(content["failed"]),
        notes=tuple(_text(note) for note in content["notes"]),
        doubt=_text(content["doubt"]),
    )


def _check_names(content: dict[str, Any], law: Law) -> None:
    """The parameters and inputs of the law, each where later steps look for it."""
    if set(content["params"]) != set(law.names):
        raise ValueError(f"its parameters are not {', '.join(law.names)}")
    if len(content["reference"]["free"]) != len(law.names):
        raise ValueError("it lacks a coordinate")
    if set(content["data"]["ranges"]) != set(law.inputs):
        raise ValueError(f"it lacks the range of an input ({', '.join(law.inputs)})")
    if set(content["reference"]["log_refs"]) != law.scaled & {*law.inputs, "loss"}:
        raise ValueError("it lacks the reference of an input")


def _number(value: Any, least: float = -np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if not least <= float(value) < np.inf:
        raise ValueError(f"{value!r} is not finite or too low")
    return float(value)


def _count(value: Any) -> int:
    if not _number(value, 0).is_integer():
        raise ValueError(f"{value!r} is not a count")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _field(value: Any) -> Any:
    """A field of an objective: its name, or a number."""
    return value if isinstance(value, str) else _number(value)


def _finding(code: Any, sentence: Any, names: list[Any]) -> Finding:
    return Finding(_text(code), _text(sentence), tuple(_text(name) for name in names))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values, with null for what JSON cannot say."""

    def plain(cell: Any) -> Any:
        cell = cell.item() if isinstance(cell, np.generic) else cell
        return None if isinstance(cell, float) and not np.isfinite(cell) else cell

    return [{name: plain(cell) for name, cell in row.items()} for row in table.to_dict("records")]


def _fields(objective: Objective) -> dict[str, float]:
    return {name: float(value) for name, value in vars(objective).items()}


def versions() -> dict[str, str]:
    """Versions of everything that a number may depend on, by name."""
    from jaxscale import __version__  # the package imports this module first

    packages = ("jax", "jaxlib", "optax", "numpy")
    found = {"python": platform.python_version(), "jaxscale": __version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # running from a source tree
            continue
    return found
