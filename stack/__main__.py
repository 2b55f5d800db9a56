"""``python -m stack``. Little is imported before an interrupt is understood, so that Ctrl-C never shows a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from stack.interrupts import hear_interrupts

        hear_interrupts()
        from stack.run import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted before anything was started.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
