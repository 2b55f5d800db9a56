"""The cache of what is fetched once: Kafka's jars, verified, shared by every stack and test of this user.

The folder is ``SLUICEGATE_CACHE_DIR``, or the user's cache folder of the platform. Several processes may fill it at
once: one holds the lock and fetches, the others wait and find it full. A file appears under its name only when it is
complete and its SHA-256 is right. A full cache needs no network.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import platformdirs
from maven_artifact import Artifact, Downloader
from maven_artifact.requestor import RequestException
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from stack.errors import StackError
from stack.jars import Jar, read_table

ENVIRONMENT_VARIABLE = "SLUICEGATE_CACHE_DIR"
JARS_FOLDER = "kafka-4.4.0"
PARALLEL_FETCHES = 8
CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60

Fetch = Callable[[Jar, Path, Callable[[int], None]], None]
"""Fetches one jar into a file and tells its third argument how many bytes have come each time.

Raises ``StackError`` if the place that holds the jars cannot be reached or does not have it.
"""


def cache_folder() -> Path:
    """Where fetched things are kept (it need not exist yet)."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(platformdirs.user_cache_dir("sluicegate"))


def fetch_from_maven(jar: Jar, target: Path, came: Callable[[int], None]) -> None:
    """Fetch one jar from the repository that ``maven-artifact`` knows, over its requestor (which obeys the usual
    proxy and certificate variables of the environment)."""
    downloader = Downloader()
    address = downloader.resolver.uri_for_artifact(Artifact(jar.group, jar.artifact, jar.version))
    try:
        with (
            downloader.requestor.request(
                address, None, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            ) as response,
            target.open("wb") as file,
        ):
            received = 0
            for chunk in response.iter_content(chunk_size=CHUNK_BYTES):
                received += len(chunk)
                if received > jar.size_bytes:  # the hash would fail anyway: do not fill the disk first
                    break
                file.write(chunk)
                came(len(chunk))
    except OSError as error:
        # requests' own errors are OSErrors too: those without an errno come from the network.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _unreachable(jar, error) from error
    except RequestException as error:
        raise _unreachable(jar, error) from error


def _unreachable(jar: Jar, error: Exception) -> StackError:
    reason = f"{type(error).__name__}"
    return StackError(
        f"Kafka's jars are not in the cache, and {jar.file_name} could not be fetched ({reason})",
        kept="What had been fetched was kept",
        next_step="Connect to the network and run the same command again; once the cache is full no network is needed",
    )


def kafka_jars(
    folder: Path | None = None,
    *,
    verify: bool = False,
    jars: Sequence[Jar] | None = None,
    fetch: Fetch | None = None,
    console: Console | None = None,
) -> Path:
    """The folder with all of Kafka's jars; what is missing or damaged is fetched, with progress on ``console``.

    :param folder: the cache; default ``cache_folder()``.
    :param verify: check every SHA-256 (about 0.2 s) and not only the sizes.
    :raises StackError: no network and not in the cache; a jar that came twice with a wrong SHA-256; a folder that
        cannot be written; a full disk.
    """
    target = (folder or cache_folder()) / JARS_FOLDER
    table = read_table() if jars is None else tuple(jars)
    if not _missing(table, target, verify=verify):
        return target
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _lock(target.parent / f"{JARS_FOLDER}.lock"):
            # Another process may have filled it while this one waited.
            if missing := _missing(table, target, verify=verify):
                _fetch_all(missing, target, fetch or fetch_from_maven, console or Console(stderr=True))
    except OSError as error:
        raise StackError(
            f"The cache {target} cannot be filled: {error.strerror or error}",
            kept="What had been fetched was kept",
            next_step=f"Make room or name another folder with {ENVIRONMENT_VARIABLE}, then run the same command again",
        ) from error
    return target


def _missing(table: Sequence[Jar], target: Path, *, verify: bool) -> list[Jar]:
    check = Jar.has_right_content if verify else Jar.has_right_size
    return [jar for jar in table if not check(jar, target / jar.file_name)]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file, or the end of the process however it comes, lets go of the lock


def _fetch_all(missing: Sequence[Jar], target: Path, fetch: Fetch, console: Console) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=target))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    pool = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="fetch")
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("Fetching Apache Kafka (once)", total=sum(jar.size_bytes for jar in missing))
            fetches = [
                pool.submit(_fetch_one, jar, scratch, target, fetch, lambda n: progress.advance(task, n))
                for jar in missing
            ]
            for finished in as_completed(fetches):
                finished.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_one(jar: Jar, scratch: Path, target: Path, fetch: Fetch, came: Callable[[int], None]) -> None:
    part = scratch / jar.file_name
    for _attempt in (1, 2):
        fetch(jar, part, came)
        if jar.has_right_content(part):
            part.replace(target / jar.file_name)
            return
    raise StackError(
        f"{jar.file_name} came twice with a content that is not the pinned one, so it was not used",
        kept="The jars that were right were kept",
        next_step="Try again later; if it stays so, somebody between here and the repository changes files",
    )
