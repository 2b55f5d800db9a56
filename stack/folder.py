"""The stack's data folder: who owns it now, and what its owner says about itself."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from stack.errors import StackError

ENVIRONMENT_VARIABLE = "SLUICEGATE_DATA_DIR"
DEFAULT_NAME = ".sluicegate"
CHECKOUT = Path(__file__).resolve().parent.parent
FREE_BYTES_MIN = 200_000_000


def data_folder(named: Path | None = None) -> Path:
    """The folder that was named, or ``SLUICEGATE_DATA_DIR``, or ``.sluicegate`` in the checkout."""
    return (named or Path(os.environ.get(ENVIRONMENT_VARIABLE) or CHECKOUT / DEFAULT_NAME)).expanduser().absolute()


Phase = Literal["starting", "running", "stopped", "failed"]


class StackState(BaseModel):
    """What a running stack says about itself in ``stack.json``; believed only while its lock is held."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    pid: int
    message: str = ""
    kafka_bootstrap: str = ""
    kafka_pid: int | None = None
    clickhouse_url: str = ""
    clickhouse_pid: int | None = None
    clickhouse_user: str = ""
    clickhouse_password_file: str = ""


class Folder:
    """A data folder, owned by at most one stack at a time; the lock ends with its process however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "stack.log"
        self._state_file = path / "stack.json"
        self._lock_file = path / "stack.lock"
        self._held: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether this object owns the folder."""
        return self._held is not None

    def acquire(self) -> None:
        """Become the owner.

        :raises StackError: another stack owns it, it cannot be written, or its disk is nearly full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = self._lock_file.open("ab")
        except OSError as error:
            raise StackError(
                f"The data folder {self.path} cannot be written: {error.strerror or error}",
                kept="Nothing was started",
                next_step=f"Choose another with --data or {ENVIRONMENT_VARIABLE}",
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            raise self._taken() from error
        self._held = held
        try:
            self._require_room()
        except StackError:
            self.release()
            raise

    def release(self) -> None:
        """Let another stack have it."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def is_owned(self) -> bool:
        """Whether some process owns the folder now."""
        try:
            with self._lock_file.open("rb") as probe:
                fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def require_unowned(self) -> None:
        """Raise ``StackError`` if some process owns the folder."""
        if self.is_owned():
            raise self._taken()

    def read_state(self) -> StackState | None:
        """What the present or last owner wrote; None if there is nothing that can be read."""
        try:
            return StackState.model_validate_json(self._state_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_state(self, state: StackState) -> None:
        """Replace the state at once, so that a reader sees the old or the new one whole."""
        part = self._state_file.with_suffix(".part")
        part.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(self._state_file)

    def _taken(self) -> StackError:
        state = self.read_state()
        owner = f" (process {state.pid})" if state else ""
        return StackError(
            f"Another stack{owner} already runs on the data folder {self.path}",
            kept="It was left alone",
            next_step="Stop it with `python -m stack down`, or choose another folder with --data",
        )

    def _require_room(self) -> None:
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < FREE_BYTES_MIN:
            raise StackError(
                f"The disk that holds {self.path} is full: {free_bytes // 1_000_000} MB are free, "
                f"{FREE_BYTES_MIN // 1_000_000} MB are needed",
                kept="Nothing was started and all data was kept",
                next_step=f"Free some space, or choose another folder with --data or {ENVIRONMENT_VARIABLE}",
            )
