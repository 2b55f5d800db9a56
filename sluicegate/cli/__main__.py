"""``python -m sluicegate.cli``, and what the console script ``sluicegate`` calls."""

import sys

_NEEDED = ("typer", "rich", "httpx")


def main() -> None:
    """Runs the command line; without its extra it says what to install and ends with status 2."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.stderr.write(f"error: the command line needs {error.name}: run  pip install 'sluicegate[cli]'\n")
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
