"""The engine's one user: its password is made once and kept in the data folder, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

USER = "sluicegate"
FILE_NAME = "password"
PASSWORD_BYTES = 24


def read_or_make_password(folder: Path) -> str:
    """The password of the engine in ``folder``; the first call makes it (mode 0600)."""
    path = folder / FILE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if password := path.read_text(encoding="ascii").strip():
            return password
        path.unlink()  # a crash came between making the file and writing it
        return read_or_make_password(folder)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(password + "\n")
        file.flush()
        os.fsync(file.fileno())
    return password
