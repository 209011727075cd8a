"""Files from the web: fetched once, checked, unpacked safely, and published whole or not at all.

The download itself is pooch's (checksum, progress bar). A folder appears under its name only when everything in it is
there: until then it is called ``NAME.partial``, which the next attempt removes. Settings, all environment variables:

- ``ANOMALY_TRANSFER_DATA``: the folder for data sets;
- ``ANOMALY_TRANSFER_MIRROR``: an address to take every file from instead of its own (``MIRROR/FILE``);
- ``ANOMALY_TRANSFER_OFFLINE``: anything but empty or 0 forbids the network.
"""

from __future__ import annotations

import errno
import gzip
import logging
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from anomaly_transfer import atomic
from anomaly_transfer.errors import DataError
from anomaly_transfer.fingerprint import digest, file_hash
from anomaly_transfer.settings import offline

TIMEOUT_SECONDS = 30
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile)


@dataclass(frozen=True)
class Source:
    """One file on the web.

    Attributes
    ----------
    url : str
    checksum : str, optional
        ``"ALGORITHM:HEX"`` of the file. None where its packing may change (an archive made on demand): then what is
        in it is checked instead.
    name : str
        Name of the file here; also looked for on a mirror.
    """

    url: str
    checksum: str | None
    name: str


def fetch_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make ``folder`` by ``fill`` unless it is there: under a lock, and published only when ``fill`` has succeeded.

    Parameters
    ----------
    folder : Path
    fill : callable
        Is given an empty folder, and puts everything into it.

    Raises
    ------
    DataError
        If the disk is full or the place cannot be written; nothing half-made is left.
    """
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.exists():
                return
            with atomic.folder(folder, flush=False) as partial:
                fill(partial)


def download(source: Source, folder: Path) -> Path:
    """The file of ``source``, from ``folder`` if it lies there whole, else from the web.

    A file at hand with another checksum is replaced; a download that breaks off starts anew.

    Returns
    -------
    Path of the file in ``folder``

    Raises
    ------
    DataError
        Without network, in offline mode, or if what arrives has another checksum; it says where to put the file.
    """
    path = folder / source.name
    instead = f"Or get {source.url} by other means and put it at {path}."
    with _explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{source.name}.lock"):
            if path.is_file() and (source.checksum is None or pooch.hashes.hash_matches(path, source.checksum)):
                return path
            if offline():
                why = "has another checksum than it should" if path.is_file() else "is not here"
                raise DataError(
                    f"The file {path} {why}, and ANOMALY_TRANSFER_OFFLINE forbids to download it: unset it. {instead}"
                )
            # In a folder of its own, so that what a killed process left is found and removed.
            partial = folder / f"{source.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _retrieve(source, partial, instead)
                os.replace(partial / source.name, path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return path


def _retrieve(source: Source, folder: Path, instead: str) -> None:
    mirror = os.environ.get("ANOMALY_TRANSFER_MIRROR", "").rstrip("/")
    url = f"{mirror}/{source.name}" if mirror else source.url
    shown = os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    pooch.get_logger().setLevel(logging.ERROR)
    try:
        pooch.retrieve(
            url,
            known_hash=source.checksum,
            fname=source.name,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=shown, timeout=TIMEOUT_SECONDS),
        )
    except requests.RequestException as error:
        raise DataError(
            f"{url} cannot be downloaded ({type(error).__name__}): is there a network? "
            f"ANOMALY_TRANSFER_MIRROR can name another server. {instead}"
        ) from error
    except ValueError as error:  # pooch's answer to another checksum
        raise DataError(
            f"What {url} gave is not the file that was expected ({error}): nothing of it was kept. Try again. {instead}"
        ) from error


def fetch_archive(
    source: Source, folder: Path, max_bytes: int, inside: str = "", pattern: str = "", content: str = ""
) -> None:
    """Download an archive beside ``folder`` and make ``folder`` of what is in it.

    Parameters
    ----------
    source : Source
    folder : Path
    max_bytes : int
        See :func:`unpack`.
    inside : str
        Subfolder to unpack to.
    pattern, content : str
        Files, and what :func:`content_hash` must give for them, where the archive has no checksum.

    Raises
    ------
    DataError
        See :func:`download`, :func:`unpack` and :func:`check_content`.
    """
    archive = download(source, folder.with_name("downloads"))

    def fill(partial: Path) -> None:
        (partial / inside).mkdir(exist_ok=True)
        unpack(archive, partial / inside, max_bytes)
        if content:
            check_content(partial, pattern, content, source)

    fetch_folder(folder, fill)


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack a tar or zip archive into an existing folder; nothing is written outside of it.

    If everything lies in one top folder, that folder is left out.

    Parameters
    ----------
    archive : Path
    folder : Path
    max_bytes : int
        More than this in total is refused.

    Raises
    ------
    DataError
        If the archive is damaged, holds a device or something that leads outside, or is too large; or if this Python
        cannot tell (Debian 12 has 3.11.2).
    """
    left = max_bytes

    def counted(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise DataError(f"{archive} unpacks to more than {max_bytes / 1e6:.0f} MB: it is not what it should be.")

    def plain(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        counted(member.size)
        return tarfile.data_filter(member, path)

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                # No more is read of a file than it says of itself.
                counted(sum(info.file_size for info in zipped.infolist()))
                zipped.extractall(folder)
        elif not hasattr(tarfile, "data_filter"):
            raise DataError(
                f"This Python is too old to unpack {archive} safely: use 3.11.4 or newer, or do it by hand."
            )
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter=plain)
    except tarfile.FilterError as error:
        raise DataError(f"{archive} holds what does not belong there ({error}): it is not unpacked.") from error
    except _DAMAGED as error:
        raise DataError(
            f"The archive {archive} is damaged ({error or type(error).__name__}): delete it and fetch it again."
        ) from error
    top = list(folder.iterdir())
    if len(top) == 1 and top[0].is_dir():
        inner = top[0].rename(folder / ".top")
        for path in inner.iterdir():
            path.rename(folder / path.name)
        inner.rmdir()


def content_hash(folder: Path, pattern: str) -> str:
    """SHA-256 over names and bytes of the files below ``folder`` that match ``pattern``."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return digest({path.relative_to(folder).as_posix(): file_hash(path) for path in files})


def check_content(folder: Path, pattern: str, expected: str, source: Source) -> None:
    """Raise DataError unless the files below ``folder`` are, byte for byte, those whose hash is known."""
    if content_hash(folder, pattern) != expected:
        raise DataError(
            f"What is in {source.url} is not what was expected (other files, or changed ones): nothing was kept."
        )


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Errors of the disk as one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        if error.errno == errno.ENOSPC:
            raise DataError(
                f"The disk is full; nothing half-written was kept at {place}. Free some space or set "
                "ANOMALY_TRANSFER_DATA to another disk, and fetch again."
            ) from error
        raise DataError(
            f"{place} cannot be written ({error.strerror or error}): set ANOMALY_TRANSFER_DATA to a folder that you "
            "can write to."
        ) from error
