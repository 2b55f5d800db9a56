"""The browser that the dashboard's tests drive: found, or installed from Debian (``python -m tests.browser``)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-lcd-text")
LIMIT_MS = 30_000
"""How long something that is expected may take on a machine that does much else."""
MISSING = (
    "The dashboard's tests drive a Chromium, and there is none: install chromium (Debian: apt-get install chromium), "
    "or set CHROMIUM to the path of a Chromium or Chrome."
)


def find_chromium() -> str | None:
    """The path of a Chromium: $CHROMIUM, or the first that is installed."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser, which ends with the block. Raises RuntimeError where there is none to run."""
    path = find_chromium()
    if path is None:
        raise RuntimeError(MISSING)
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield running
        finally:
            running.close()


def main() -> int:
    """Finds a Chromium, or installs one where that is a matter of one command; the exit status."""
    if find_chromium():
        return 0
    if not (os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get")):
        sys.stderr.write(f"{MISSING}\n")
        return 1
    sys.stderr.write("installing chromium (once) …\n")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "chromium"]):
        run = subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
        if run.returncode != 0:
            sys.stderr.write(f"apt-get {command[0]} failed. {MISSING}\n")
            return 1
    return 0 if find_chromium() else 1


if __name__ == "__main__":
    sys.exit(main())
