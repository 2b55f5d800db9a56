"""Reads the files that commands are given."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sluicegate_schemas.files import FILE_BYTES_MAX, FileError

from ..errors import ConfigurationError

Loaded = TypeVar("Loaded")


def read_file(path: Path, load: Callable[[str], Loaded]) -> Loaded:
    """What ``load`` makes of the file. Raises ConfigurationError that names the file and, where known, the line."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        return load(content.decode("utf-8"))
    except FileError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except UnicodeError:
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from None
