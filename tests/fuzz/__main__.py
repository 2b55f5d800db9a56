"""``python -m tests.fuzz --for 60 [--only usage]``: fuzzes each decoder for some seconds; ``make fuzz`` calls it.

A record that breaks a promise is made smaller and kept in the corpus as ``found_<digest>``, where the tests replay it;
give it a name that says what it was. Ends with 1 where anything was found.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Callable
from random import Random, SystemRandom
from time import monotonic

from .all_targets import TARGETS
from .mutation import mutate
from .target import CORPUS, BrokenPromiseError, Target, check, corpus

FOUND_MAX = 10
"""Of one target in one run: then it has enough to mend."""


def breaks(target: Target, value: bytes) -> str | None:
    """How ``value`` breaks the target's promise; None where it does not."""
    try:
        check(target, value)
    except BrokenPromiseError as error:
        return str(error)
    return None


def kind_of(broken: str) -> str:
    """Breaks of one kind are reported once: the message up to what hangs on the record."""
    return " ".join(broken.split()[:7])


def smaller(value: bytes, still: Callable[[bytes], bool]) -> bytes:
    """``value`` with everything cut away that ``still`` does not need, as far as cutting pieces goes."""
    size = len(value) // 2
    while size:
        at = 0
        while at < len(value):
            shorter = value[:at] + value[at + size :]
            if still(shorter):
                value = shorter
            else:
                at += size
        size //= 2
    return value


def fuzz(target: Target, seconds: float, seed: int) -> tuple[int, int, dict[str, tuple[bytes, str]]]:
    """(executions, how many were decoded, what broke by kind)."""
    random = Random(f"{seed}/{target.name}")
    seeds = corpus(target.name)
    executions = decoded = 0
    found: dict[str, tuple[bytes, str]] = {}
    end = monotonic() + seconds
    while monotonic() < end and len(found) < FOUND_MAX:
        value = mutate(random.choice(seeds), target.kind, random, seeds)
        executions += 1
        try:
            decoded += check(target, value)
        except BrokenPromiseError as error:
            kind = kind_of(str(error))
            if kind not in found:
                small = smaller(value, lambda shorter, kind=kind: kind_of(breaks(target, shorter) or "") == kind)
                found[kind] = small, str(error)
    return executions, decoded, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, default=60, help="seconds for each decoder")
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32), help="repeats a run")
    options = parser.parse_args()
    logging.disable()
    print(f"seed {options.seed}; {options.seconds:g} s for each target")
    broken = 0
    for target in TARGETS:
        if options.only not in target.name:
            continue
        executions, decoded, found = fuzz(target, options.seconds, options.seed)
        rate = executions / options.seconds
        print(f"{target.name:18} {executions:8} executions {rate:8.0f}/s {decoded:8} decoded {len(found):3} broken")
        for value, said in found.values():
            broken += 1
            path = CORPUS / target.name / f"found_{hashlib.sha256(value).hexdigest()[:12]}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(value)
            print(f"  {path.name}: {said}\n    {value[:200]!r}")
        sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
