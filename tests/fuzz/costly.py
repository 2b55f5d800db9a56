"""Records as large as they may be, made to cost as much as they can, with what they may cost.

``python -m tests.fuzz.costly`` prints what each costs here.
"""

import json
import tracemalloc
from collections.abc import Callable
from time import process_time
from typing import Final, NamedTuple

from sluicegate_schemas.bounds import ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX

_HEAD: Final = b"\x97\x01\xa2p1\x01\x01\x01\xc0"
_EVENT: Final = b"\xdc\x00\x11\xc0\xa5org_a\xa5key_a\xa1a\x01\x01\x01\x01"


class Costly(NamedTuple):
    """``make`` makes a record for the target of this name."""

    name: str
    target: str
    make: Callable[[], bytes]
    seconds_max: float
    """Of the processor's time, on a slow core."""
    megabytes_max: float


def _events(event: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        count = (ENVELOPE_BYTES_MAX - len(_HEAD) - 5) // len(event)
        return _HEAD + b"\xdd" + count.to_bytes(4, "big") + event * count

    return make


def _in_event(before: bytes, item: bytes, head: bytes) -> Callable[[], bytes]:
    """One event whose field after ``before`` holds as many of ``item`` as fit behind ``head`` and their count."""

    def make() -> bytes:
        start = _HEAD + b"\x91" + _EVENT + before
        count = (ENVELOPE_BYTES_MAX - len(start) - 5) // len(item)
        return start + head + count.to_bytes(4, "big") + item * count

    return make


def _keys() -> bytes:
    """One event whose quantities have as many names as fit."""
    start = _HEAD + b"\x91" + _EVENT
    names = b"".join(b"\xa4" + f"{number:04x}".encode() + b"\x01" for number in range(65_000))
    return start + b"\xdf" + (65_000).to_bytes(4, "big") + names + b"\xc0\xc2\xc0\xc0\xc0\xc0\xc0\xc0"


def _json(make: Callable[[], str]) -> Callable[[], bytes]:
    return lambda: make().encode()[:EVENT_BYTES_MAX]


def _command(extra: str) -> bytes:
    return ('{"kind":"key.revoke",' + extra).encode()[:EVENT_BYTES_MAX]


COSTLY: Final = (
    Costly("tiny events", "usage_envelope", _events(b"\x98\xc0\xa0\xc0\xa0\x01\x01\x01\x01"), 2, 60),
    Costly("events of empty maps", "usage_envelope", _events(b"\x99\xc0\xa0\xc0\xa0\x01\x01\x01\x01\x80"), 2, 60),
    Costly("tiny charges", "usage_envelope", _in_event(b"\xc0\xc0\xc2", b"\x92\xa0\x80", b"\xdd"), 2, 80),
    Costly("many quantities", "usage_envelope", _keys, 2, 60),
    Costly("a field of arrays", "usage_envelope", lambda: _HEAD + b"\x91" * 900_000, 2, 30),
    Costly(
        "fields that no version knows",
        "usage_envelope",
        lambda: b"\xdd\x00\x0e\x00\x00" + _HEAD[1:] + b"\x90" * 900_000,
        2,
        30,
    ),
    Costly(
        "one text",
        "usage_envelope",
        lambda: _HEAD + b"\x91" + _EVENT[:3] + b"\xdb\x00\x0e\x00\x00" + b"a" * 917_504,
        2,
        30,
    ),
    Costly("a claimed length of arrays", "usage_envelope", lambda: _HEAD + b"\xdd\xff\xff\xff\xff", 1, 5),
    Costly(
        "a claimed length of a map", "usage_envelope", lambda: _HEAD + b"\x91" + _EVENT + b"\xdf\xff\xff\xff\xff", 1, 5
    ),
    Costly("a claimed length of a text", "usage_envelope", lambda: b"\x97\x01\xdb\xff\xff\xff\xff", 1, 5),
    Costly("a claimed extension", "usage_envelope", lambda: b"\x97\x01\xc9\xff\xff\xff\xff\x01", 1, 5),
    Costly(
        "an envelope in a partition",
        "machine_envelope",
        _events(_EVENT + b"\xc0\xc0\xc2\xc0\xc0\xc0\xc0\xc0\xc0"),
        4,
        60,
    ),
    Costly("deep objects", "usage_json", _json(lambda: '{"a":' * 20_000), 1, 10),
    Costly("deep arrays after specversion", "usage_json", _json(lambda: '{"specversion":' + "[" * 60_000), 1, 10),
    Costly("a long number", "usage_json", _json(lambda: '{"status":' + "9" * 60_000 + "}"), 1, 10),
    Costly("a large exponent", "usage_json", _json(lambda: '{"status":1e' + "9" * 60_000 + "}"), 1, 10),
    Costly(
        "many labels", "usage_json", _json(lambda: json.dumps({"labels": {f"l{n}": "" for n in range(5_000)}})), 1, 10
    ),
    Costly("one field many times", "usage_json", _json(lambda: "{" + '"id":"a",' * 7_000 + '"id":"a"}'), 1, 10),
    Costly("escapes", "usage_json", _json(lambda: '{"id":"' + "\\u0061" * 10_000 + '"}'), 1, 10),
    Costly("a command of deep objects", "command", lambda: _command('"a":' + '{"a":' * 12_000), 1, 20),
    Costly("a command of a long number", "command", lambda: _command('"a":' + "9" * 60_000 + "}"), 1, 20),
    Costly(
        "a command of many fields",
        "command",
        lambda: _command(",".join(f'"a{n}":1' for n in range(5_000)) + "}"),
        2,
        30,
    ),
    Costly(
        "a state of deep arrays",
        "state_fold",
        lambda: b"\x91\x93\xc4\x05_head\x01\xc6\x00\x01\x86\xa0" + b"\x91" * 100_000,
        1,
        10,
    ),
    Costly("a spool of tiny frames", "spool", lambda: b"\x00" * 4_000_000, 2, 40),
    Costly("a table of many dots", "toml_catalogue", lambda: b".".join([b"a"] * 3_000) + b" = 1", 6, 60),
    Costly("a health file of deep arrays", "health", lambda: b"[" * 1_000_000, 1, 10),
)


def main() -> None:
    from .all_targets import TARGETS
    from .target import check

    targets = {target.name: target for target in TARGETS}
    for costly in COSTLY:
        value = costly.make()
        started = process_time()
        check(targets[costly.target], value)
        seconds = process_time() - started
        tracemalloc.start()
        check(targets[costly.target], value)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{costly.name:34} {len(value):9} bytes {seconds * 1000:8.1f} ms {peak / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
