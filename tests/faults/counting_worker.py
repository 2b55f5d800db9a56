"""A worker whose partitions count: ``python -m faust -A tests.faults.counting_worker worker``.

With COUNTING_STOP_AFTER=n the process stops itself (SIGSTOP) once, after n changed rows were taken for flushes: between
the snapshot of a flush and its send, which is where a paused owner does the most harm. With COUNTING_FORGET_TABLE=k| it
can't read those rows.
"""

import os
import signal

from streams.settings import Settings
from streams.worker import build_worker
from tests.faults.counting_machine import CountingMachine

_stop_after = int(os.environ.get("COUNTING_STOP_AFTER", "0"))
_forgotten = os.environ.get("COUNTING_FORGET_TABLE", "").encode()
_taken = 0


class StoppingMachine(CountingMachine):
    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        global _stop_after, _taken
        changes = super().take_changes()
        _taken += len(changes)
        if _stop_after and _taken >= _stop_after:
            _stop_after = 0
            os.kill(os.getpid(), signal.SIGSTOP)
        return changes

    def restore(self, key: bytes, payload: bytes) -> None:
        if _forgotten and key.startswith(_forgotten):
            raise ValueError("unknown table")
        super().restore(key, payload)


app = build_worker(Settings.from_environment(), StoppingMachine)
