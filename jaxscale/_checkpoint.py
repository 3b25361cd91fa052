"""Long jobs in chunks: what is finished is kept in a file, and a later call goes on from there.

A job is cut into chunks that depend on nothing but their names and the arguments of the job, so a
job that was cut off ends with the very numbers of one that was not. A file holds whole chunks
only, each once, by name, and is replaced as a whole: `kill -9` at any moment leaves a readable
file, without the chunks since it was last written.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._objective import Objective
from jaxscale._refit import single_fit
from jaxscale._save import write_bytes

Arrays = Mapping[str, np.ndarray]

_FORMAT = "jaxscale-checkpoint-1"
_JOB = "job"
# The whole file is written again each time: rarely enough that this costs little, however long
# the job and however large the file.
_EVERY = 10.0  # seconds between two writes
_SHARE = 0.05  # of the time at most is spent on writing


class Checkpoint:
    """The finished chunks of one job, by name. Without a path they are kept in memory only.

    Args:
        path: the file, or None. If it exists, its chunks are finished already.
        digest: of everything that determines the result of a chunk, see `digest_of`.
        what: the kind of job for messages, such as ``"a bootstrap"``.

    Raises:
        DataError: if the file is no checkpoint, damaged, or that of another job.

    Example:
        >>> with Checkpoint(path, digest_of(runs.digest(), n), "a sum") as kept:
        ...     parts = [kept.chunk(str(i), lambda i=i: {"sum": slow(i)}) for i in range(n)]
    """

    def __init__(self, path: str | Path | None, digest: str, what: str):
        self.path = None if path is None else Path(path)
        self._job = np.array([_FORMAT, what, digest])
        self._chunks: dict[str, Arrays] = {}
        self._unsaved, self._due = False, 0.0
        if self.path is not None and self.path.exists():
            self._chunks = _read(self.path, self._job)
        if self.path is not None:
            _agree(self.path, sorted(self._chunks))

    def __contains__(self, name: str) -> bool:
        """Whether a chunk is finished."""
        return name in self._chunks

    def __getitem__(self, name: str) -> Arrays:
        """The arrays of a finished chunk."""
        return self._chunks[name]

    def chunk(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a chunk: those that are kept, or else what `make` gives, then kept too."""
        if name not in self._chunks:
            self._chunks[name] = {field: np.asarray(x) for field, x in make().items()}
            self._unsaved = True
            if time.monotonic() >= self._due:
                self.write()
        return self._chunks[name]

    def write(self) -> None:
        """Bring the file up to date."""
        if self.path is None or not self._unsaved or jax.process_index() > 0:
            return
        began, content = time.monotonic(), io.BytesIO()
        arrays: dict[str, Any] = {
            f"{name}/{field}": x
            for name, chunk in self._chunks.items()
            for field, x in chunk.items()
        }
        np.savez(content, **{_JOB: self._job, **arrays})
        write_bytes(self.path, content.getvalue())
        ended = time.monotonic()
        self._unsaved, self._due = False, ended + max(_EVERY, (ended - began) / _SHARE)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """At the end, after an error and after Ctrl-C: nothing that is finished is lost."""
        self.write()


def _agree(path: Path, names: list[str]) -> None:
    """Several processes go on together, so they must have the same chunks behind them."""
    if jax.process_count() == 1:
        return
    mark = np.frombuffer(hashlib.sha256(json.dumps(names).encode()).digest()[:4], np.int32)
    if np.ptp(np.asarray(multihost_utils.process_allgather(mark))):
        raise DataError(
            f"{path}: the processes do not see the same checkpoint; put it on a disk they share"
        )


def _read(path: Path, job: np.ndarray) -> dict[str, Arrays]:
    """The chunks of a file, of this job only."""
    chunks: dict[str, dict[str, np.ndarray]] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError
        with np.load(path, allow_pickle=False) as held:
            version, what, digest = (str(x) for x in held[_JOB])
            for entry in held.files:
                if entry != _JOB:
                    name, field = entry.rsplit("/", 1)
                    chunks.setdefault(name, {})[field] = held[entry]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise DataError(
            f"{path}: this is not a checkpoint, or it is damaged; choose another file"
        ) from None
    if (version, what) != tuple(job[:2]):
        raise DataError(
            f"{path}: this is the checkpoint of {what}, not of {job[1]}; choose another file"
        )
    if digest != job[2]:
        raise DataError(
            f"{path}: belongs to {what} with other runs, settings, key or version of jaxscale; "
            "choose another file"
        )
    return dict(chunks)


def digest_of(*parts: Any) -> str:
    """SHA-256 of arrays, by their numbers, of random keys, and of anything else by its text.

    The version of jaxscale and the precision are always part of it; the machine is not, so that a
    job may go on elsewhere: the same up to round-off.
    """
    from jaxscale import __version__  # not there yet while the package is imported

    content = hashlib.sha256(f"{__version__} {jnp.result_type(float)}".encode())
    for part in parts:
        if isinstance(part, jax.Array) and jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
            content.update(str(jax.random.key_impl(part)).encode())
            part = jax.random.key_data(part)
        if isinstance(part, np.ndarray | jax.Array):
            numbers = np.ascontiguousarray(part)
            content.update(f"|{numbers.dtype}{numbers.shape}|".encode())
            content.update(numbers.tobytes())
        else:
            content.update(f"|{part!r}|".encode())
    return content.hexdigest()


def exactly(objective: Objective) -> str:
    """An objective with all digits of its numbers."""
    return f"{type(objective).__name__} {[(k, float(v)) for k, v in vars(objective).items()]}"


def fit_digest(fit: Fit) -> str:
    """Digest of what refits start from: the runs, the law, the objective and the optimum.

    A law is known by its name, its parameters and its optimum on these runs: its code has no text.
    The optimum counts to its last bit, so that a job goes on only from the very fit it began with,
    as a saved fit gives it, or the same machine and version.
    """
    law = fit.law
    return digest_of(
        single_fit(fit).digest(), law.name, law.params, law.inputs, exactly(fit.objective),
        np.asarray(fit.free), sorted((name, float(x)) for name, x in fit.log_refs.items()),
        float(fit.restarts.tolerance), float(fit.restarts.floor),
    )  # fmt: skip
