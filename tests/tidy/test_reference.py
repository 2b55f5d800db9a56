"""The pages that commands write are as the commands would write them now."""

from __future__ import annotations

from pathlib import Path

from sluicegate.cli.reference import reference

ROOT = Path(__file__).parents[2]


def test_the_command_lines_page_says_what_the_commands_are() -> None:
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    assert page == reference(), "run: python -m sluicegate.cli.reference docs/cli.md"
