"""What a fuzzed decoder promises, and the check of one input against it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any, Final

CORPUS: Final = Path(__file__).parent / "corpus"
GOLDEN_FOLDER: Final = Path(__file__).parents[1] / "contract/golden"
GOLDEN: Final = {
    "usage_envelope": ("usage_envelope_v1.bin", "usage_forward_v2.bin"),
    "usage_json": ("usage_event.json", "cloud_event.json"),
    "command": ("command_key_put.json", "command_key_revoke.json", "command_organization_put.json"),
    "catalogue": ("catalogue_record.json",),
    "entitlement": ("entitlement_key.json", "entitlement_organization.json"),
    "decision": ("decision.json",),
    "wire_decision": ("decision.json",),
    "balance": ("balance.json",),
    "reject": ("reject.json",),
    "follower": ("catalogue_record.json", "entitlement_key.json", "entitlement_organization.json", "decision.json"),
    "sink_decision": ("decision.json",),
    "sink_balance": ("balance.json",),
    "sink_alert": ("alert_audit_drift.json",),
}
"""The records of the contract that a target starts from besides its own corpus."""
SECONDS_MAX: Final = 3.0
"""Of the processor's time, for any mutated record; what the largest records may take is measured elsewhere."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SECRET: Final = "0123456789abcdef"
"""What hostile words hold of a secret: no error may repeat it."""


@dataclass(frozen=True)
class Target:
    """A decoder. ``decode`` returns a value within its bounds, or raises one of ``errors``; nothing else.

    ``encode`` turns a value into bytes that decode to an equal one. ``kind`` is the structure that mutation knows:
    "json", "msgpack" or "bytes". ``says`` is whether its errors reach people or topics, so that they may neither hold
    control signs nor repeat a secret.
    """

    name: str
    kind: str
    decode: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    encode: Callable[[Any], bytes] | None = None
    says: Callable[[Exception], str] | None = str


class BrokenPromiseError(AssertionError):
    """An input that a decoder did not take as it promised."""


def corpus_files(name: str) -> list[Path]:
    """The files that a target starts from, in a fixed order: golden records, its corpus, what once broke it."""
    return [*(GOLDEN_FOLDER / file for file in GOLDEN.get(name, ())), *sorted((CORPUS / name).glob("*"))]


@cache
def corpus(name: str) -> list[bytes]:
    """The contents of ``corpus_files``."""
    return [path.read_bytes() for path in corpus_files(name)]


def check(target: Target, value: bytes) -> bool:
    """Whether ``value`` was decoded; False where it was refused. Raises BrokenPromiseError."""
    started = process_time()
    try:
        decoded = target.decode(value)
    except target.errors as error:
        if process_time() - started > SECONDS_MAX:
            raise BrokenPromiseError(f"{target.name} took more than {SECONDS_MAX:g} s to refuse") from error
        _check_saying(target, error)
        return False
    except Exception as error:
        raise BrokenPromiseError(f"{target.name} raised {type(error).__name__}: {str(error)[:300]}") from error
    if (seconds := process_time() - started) > SECONDS_MAX:
        raise BrokenPromiseError(f"{target.name} took {seconds:.1f} s for {len(value)} bytes")
    if target.encode is not None:
        _check_stable(target, decoded)
    return True


def _check_saying(target: Target, error: Exception) -> None:
    if target.says is None:
        return
    said = target.says(error)
    if len(said) > 4_000 or _CONTROL.search(said) or SECRET in said:
        raise BrokenPromiseError(f"{target.name} says {said[:300]!r}")


def _check_stable(target: Target, decoded: Any) -> None:
    assert target.encode is not None
    written = target.encode(decoded)
    try:
        again = target.decode(written)
    except target.errors as error:
        raise BrokenPromiseError(f"{target.name} does not read what it wrote: {error}") from error
    if again != decoded or target.encode(again) != written:
        raise BrokenPromiseError(f"{target.name} reads what it wrote as something else")
