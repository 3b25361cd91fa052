"""The corpus: Python source text that is on every machine that can run this package."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CONTEXT = 64
# Scientific packages that an installation of jaxscale brings along.
PACKAGES = (
    "arviz-base",
    "arviz-plots",
    "arviz-stats",
    "equinox",
    "jax",
    "jaxtyping",
    "lineax",
    "matplotlib",
    "narwhals",
    "numpy",
    "numpyro",
    "optax",
    "optimistix",
    "pandas",
    "scipy",
    "xarray",
)
SPLIT_SEED = 20261128
HELD_OUT_EVERY = 25
HELD_OUT_WINDOWS = 4096


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Windows of CONTEXT + 1 bytes, and what they were cut from."""

    train: np.ndarray
    held_out: np.ndarray
    record: dict[str, object]


def library_files() -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of the standard library's own Python files, in sorted order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        # Installed packages are not part of CPython, and _sysconfigdata is written by the build
        # on each machine, so both would make the corpus differ between machines.
        if "-packages/" not in name and not path.name.startswith("_sysconfigdata"):
            yield f"python/{name}", path


def package_files(package: str) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of the Python files a distribution installed, in sorted order."""
    files = importlib.metadata.distribution(package).files or []
    for file in sorted(files, key=str):
        if file.suffix == ".py" and ".." not in file.parts:
            yield f"{package}/{file.as_posix()}", Path(str(file.locate()))


def is_held_out(name: str) -> bool:
    """Choose about 4% of the files by name, so that adding a file moves no other file."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_EVERY == 0


def cut_windows(texts: list[bytes]) -> np.ndarray:
    """Cut texts, joined by a zero byte, into windows that predict each byte exactly once."""
    data = np.frombuffer(b"\0".join(texts), np.uint8)
    count = (len(data) - 1) // CONTEXT
    return np.lib.stride_tricks.sliding_window_view(data, CONTEXT + 1)[::CONTEXT][:count]


def load_corpus(
    packages: tuple[str, ...] = PACKAGES, *, library_part: str = "", scored: int = HELD_OUT_WINDOWS
) -> Corpus:
    """Read, split by file and cut the corpus; its record holds sizes, versions and hashes.

    Args:
        packages: distributions to read besides the standard library.
        library_part: read only the part of the standard library whose names start so.
        scored: windows in the fixed sample of held-out ones, or fewer if there are fewer.
    """
    sources = [item for item in library_files() if item[0].startswith(f"python/{library_part}")]
    for package in packages:
        sources.extend(package_files(package))
    split: dict[bool, list[bytes]] = {False: [], True: []}
    seen: set[bytes] = set()
    corpus_hash, split_hash = hashlib.sha256(), hashlib.sha256()
    for name, path in sources:
        text = path.read_bytes()
        digest = hashlib.sha256(text).digest()
        # A vendored copy of a training file must not turn up among the held-out ones.
        if not text or digest in seen:
            continue
        seen.add(digest)
        held_out = is_held_out(name)
        split[held_out].append(text)
        corpus_hash.update(name.encode() + b"\0" + digest)
        split_hash.update(f"{name}\0{held_out}\n".encode())
    held_out_windows = cut_windows(split[True])
    rng = np.random.default_rng(SPLIT_SEED)
    count = min(scored, len(held_out_windows) // 64 * 64)
    picked = np.sort(rng.choice(len(held_out_windows), count, replace=False))
    record: dict[str, object] = {
        "corpus_sha256": corpus_hash.hexdigest(),
        "split_sha256": split_hash.hexdigest(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "train_files": len(split[False]),
        "train_bytes": sum(map(len, split[False])),
        "held_out_files": len(split[True]),
        "held_out_bytes": sum(map(len, split[True])),
        "held_out_bytes_scored": count * CONTEXT,
        "context": CONTEXT,
    }
    return Corpus(cut_windows(split[False]), held_out_windows[picked], record)
