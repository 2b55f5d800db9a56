"""What the command line does with signals."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hear_interrupts() -> None:
    """SIGTERM and SIGHUP are interrupts like Ctrl-C: ``KeyboardInterrupt`` in the main thread."""
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)


def only_end_now() -> None:
    """From here on this process only ends, within its children's limits: a second signal must not cut that short."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
