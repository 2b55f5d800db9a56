"""What a long test found: figures for machines, sentences for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[str], None]
"""Takes a line that shows progress."""


@dataclass(slots=True)
class Report:
    """Figures for machines, sentences for people, and what was not as it should be."""

    figures: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def judge(self, ok: bool, sentence: str) -> None:
        """Notes ``sentence``, as a failure where not ``ok``."""
        (self.sentences if ok else self.failures).append(sentence)
