"""Public files at a fixed commit: found in a mirror or downloaded once, and always checked."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from jaxscale._errors import DataError

MIRROR = "JAXSCALE_DATA"  # environment variable: a folder, or the address of one
_TIMEOUT = 30.0  # seconds without an answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A public file, and the table that is made of it.

    Attributes:
        name: name of the data set, as in `table`.
        file: name of the file, in the cache and in a mirror.
        url: where it lies, at a fixed commit.
        sha256: hash of its bytes.
        license: what its owners say about its use.
        citation: the paper to cite.
        rows: rows of the table, before any cleaning.
        units: unit of each column, in the order of the columns.
    """

    name: str
    file: str
    url: str
    sha256: str
    license: str
    citation: str
    rows: int
    units: Mapping[str, str]

    @property
    def repository(self) -> str:
        """Who publishes it, as ``github.com/owner/name``."""
        owner, name = self.url.removeprefix("https://").split("/")[1:3]
        return f"github.com/{owner}/{name}"

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns of the table in order, rows counted anew, with ``attrs`` that say whence."""
        found = table[list(self.units)].reset_index(drop=True)
        found.attrs = {
            "name": self.name,
            "source": self.repository,
            "url": self.url,
            "sha256": self.sha256,
            "license": self.license,
            "citation": self.citation,
            "units": dict(self.units),
        }
        return found


def local_file(source: Source) -> Path:
    """The file on this machine: from the mirror if there is one, else from the cache, else from
    the network.

    ``$JAXSCALE_DATA`` names the mirror: a folder, itself or with a folder ``original``, or the
    http address of one.

    Raises:
        DataError: if the file cannot be had, or its hash is wrong.
    """
    mirror = os.environ.get(MIRROR, "")
    if mirror.startswith(("http://", "https://")):
        return _download(source, f"{mirror.rstrip('/')}/{source.file}")
    folders = (Path(mirror), Path(mirror, "original")) if mirror else ()
    held = next((each for folder in folders if (each := folder / source.file).is_file()), None)
    return _download(source, source.url) if held is None else _checked(held, source)


def _checked(path: Path, source: Source) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise DataError(
            f"{path}: this is not the file that {MIRROR} should hold (SHA-256 {found[:12]}..., not "
            f"{source.sha256[:12]}...); replace it by {source.url}, or unset {MIRROR}"
        )
    return path


def _download(source: Source, url: str) -> Path:
    """The file in the cache, downloaded if it is not there whole."""
    import pooch
    import requests

    folder = Path(pooch.os_cache("jaxscale"))
    otherwise = (
        f"get {source.file} elsewhere ({source.url}), put it into a folder and set {MIRROR} to "
        "that folder"
    )
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{source.sha256}",
                fname=source.file,
                path=folder,
                downloader=_get,
            )
        )
    except requests.HTTPError as error:
        status = f"HTTP {error.response.status_code}" if error.response is not None else str(error)
        raise DataError(f"{url}: the server refused it ({status}); {otherwise}") from None
    except requests.RequestException as error:
        raise DataError(
            f"{url}: the download failed ({_reason(error)}); is there a network? If not, "
            f"{otherwise}"
        ) from None
    except ValueError:  # the hash; the file is not kept
        raise DataError(
            f"{url}: what arrived is not the file it should be (its SHA-256 differs: it was cut "
            f"off or changed), so it was not kept; try again, or {otherwise}"
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder}: the download cannot be kept there ({error.strerror or error}); make room "
            f"for it, or {otherwise}"
        ) from None


def _get(url: str, path: str, _: object) -> None:
    """What pooch calls; unlike its own, it closes the connection whatever happens."""
    import requests

    with requests.get(url, stream=True, timeout=_TIMEOUT) as response, open(path, "wb") as file:
        response.raise_for_status()
        for piece in response.iter_content(2**16):
            file.write(piece)


def _reason(error: Exception) -> str:
    """The kind of a failed download in two or three words, without addresses of memory."""
    kinds = {
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
        "SSLError": "no secure connection",
        "ProxyError": "the proxy does not answer",
        "ConnectionError": "no connection",
        "ChunkedEncodingError": "it broke off",
    }
    return kinds.get(type(error).__name__, type(error).__name__)
