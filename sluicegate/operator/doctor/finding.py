"""What a check found."""

from typing import Literal

from sluicegate_schemas.bounds import Record


class Finding(Record):
    """``check`` is what was looked at, ``detail`` what is the case, ``remedy`` what to do (empty where it is well)."""

    check: str
    status: Literal["ok", "warning", "error"]
    detail: str
    remedy: str = ""


def well(check: str, detail: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check=check, status="ok", detail=detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    """It works, but somebody should look."""
    return Finding(check=check, status="warning", detail=detail, remedy=remedy)


def broken(check: str, detail: str, remedy: str) -> Finding:
    """It does not work; the doctor's exit code is 1."""
    return Finding(check=check, status="error", detail=detail, remedy=remedy)
