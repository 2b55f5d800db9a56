"""What of a process's log tells why it ended: where the trouble began, and how it ended.

A process that crashes logs its cause first, and then pages of services that stop: its last lines hide the cause.
"""

import re
from typing import Final

_TROUBLE: Final = re.compile(r"\[(?:ERROR|CRITICAL)\]|^Traceback|Crashed reason", re.MULTILINE)
_BEFORE_LINES: Final = 20
_BEFORE_CHARACTERS: Final = 3_000
_FIRST_CHARACTERS: Final = 4_000
_LAST_CHARACTERS: Final = 3_000
_FIRST_TROUBLES: Final = 8


def crash_excerpt(log: str) -> str:
    """The first lines of trouble of ``log`` one by one, where its crash begins with what came before, and its end.

    At most about 13,000 characters. Where nothing of it is trouble, or it is short, its end alone.
    """
    troubles = [match.start() for match in _TROUBLE.finditer(log)]
    tail_at = max(0, len(log) - _LAST_CHARACTERS)
    tail = log[tail_at:]
    if not troubles or troubles[0] >= tail_at:
        return tail
    crash = log.find("Crashed reason")
    at = crash if crash >= 0 else troubles[0]
    before = log[:at].splitlines(keepends=True)[-_BEFORE_LINES:]
    begin = at - min(sum(map(len, before)), _BEFORE_CHARACTERS)
    first = log[begin : min(at + _FIRST_CHARACTERS, tail_at)]
    named = "\n".join(_line_at(log, start)[:300] for start in troubles[:_FIRST_TROUBLES])
    return f"{len(troubles)} lines of trouble, at first:\n{named}\n--- its beginning:\n{first}\n--- its end:\n{tail}"


def _line_at(log: str, position: int) -> str:
    begin = log.rfind("\n", 0, position) + 1
    end = log.find("\n", position)
    return log[begin : end if end >= 0 else len(log)]
