"""Runs a command that dies with the process that started it: ``python -I -S leash.py PARENT_PID COMMAND...``.

The kernel is asked to send SIGKILL when the parent is gone (``PR_SET_PDEATHSIG``), and then this process becomes the
command. The wish survives ``exec``, so that even ``kill -9`` of a launcher leaves no orphan. It is done here, in a
process of its own, because code that runs between fork and exec of a threaded parent may deadlock. Outside Linux the
command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent_pid, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused PR_SET_PDEATHSIG")
        if os.getppid() != parent_pid:  # the parent died before the wish was made
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - becoming the fixed command is the purpose


if __name__ == "__main__":
    main(sys.argv[1:])
