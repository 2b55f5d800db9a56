"""``python -m api``: serves the usage API (docs/api.md) until it is stopped; its first line is its address."""

import logging
import sys

from sluicegate.errors import ConfigurationError
from sluicegate_schemas.files import FileError
from streams.endpoint import ListenError
from streams.settings import SettingsError

from .serve import run, serve
from .settings import ApiSettings


def main() -> int:
    """Command line entry; returns the exit status: 0, or 2 with one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs each failed try; we say it once
    try:
        run(serve(ApiSettings.from_environment()))
    except (SettingsError, ListenError, ConfigurationError, FileError, OSError) as error:
        sys.stderr.write(f"{error}. Nothing was served.\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
