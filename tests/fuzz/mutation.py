"""Hostile variants of a record: its structure mutated where it can be read, else its bytes.

All choices come from one ``random.Random``, so that Hypothesis can drive and shrink them and a long run can repeat one
by its seed.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

WORDS: Final[tuple[Any, ...]] = (
    "",
    " ",
    "\n",
    "a",
    "A",
    "None",
    "null",
    "a|b",
    "a:b",
    "a/b",
    "a\x00b",
    "a\nb",
    "a\r\nX-Injected: 1",
    "\x1b[31m",
    "\x9b2J",
    "\u2028",
    "\u202e\u2066",
    "\u200b",
    "\ufeff",
    "é",
    "e\u0301",
    "ＯＲＧ",
    "оrg_acme",
    "sk_live_0123456789abcdef",
    "org_acme",
    "org_ACME",
    "key_acme_1",
    "key:org_acme",
    "storage",
    "search.knn",
    "a" * 65,
    "a" * 129,
    "a" * 5_000,
    "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:60Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-13",
    "1",
    "01",
    "-1",
    "1_0",
    "１",
    "9" * 5_000,
    "1/0",
    "\U0001f4a5",
    "a\\",
    '"',
    "'",
    "`",
    "{}",
    "[]",
)
NUMBERS: Final[tuple[Any, ...]] = (
    0,
    1,
    -1,
    2,
    99,
    255,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    10**15,
    10**15 + 1,
    10**18,
    10**18 + 1,
    0.0,
    -0.0,
    0.5,
    1e308,
    5e-324,
    True,
    False,
    None,
    1_769_860_800_250,
    4_102_444_800_000,
)
"""All of them fit MessagePack; JSON gets larger ones as text, see ``_JSON_TEXTS``."""
_JSON_TEXTS: Final = (
    "NaN",
    "-Infinity",
    "1e999",
    "-1e-999",
    "1E+2",
    "9" * 400,
    "9" * 5_000,
    "0." + "3" * 400,
    "01",
    "+1",
    "0x1f",
    "tru",
    '"\\ud800"',
    '"\\u0000"',
    '"\\u009b"',
    '"\\ud83d\\ude00"',
    '"\\x41"',
    "[" * 2_000,
    '{"a":' * 1_000,
    "/**/1",
    "'a'",
    "",
)
_HEADS: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc7\x01\x05\x00",
    b"\xd4\xff\x00",
    b"\xd7\xff" + b"\xff" * 8,
    b"\xc1",
    b"\x80",
    b"\x90",
    b"\xa1\xff",
    b"\xa3\xed\xa0\x80",
    b"\xcb\x7f\xf8" + b"\x00" * 6,
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
    b"\x91" * 1_500,
    b"\x81\xa1a" * 700,
    b"\xde\xff\xff",
)
_SIGNS: Final = (
    b"\x00",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b"\xff",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"|",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"'",
)

Tree = Any


def mutate(value: bytes, kind: str, random: Random, others: list[bytes]) -> bytes:
    """A hostile variant of ``value``, which is "json", "msgpack" or anything else; ``others`` lend their parts."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = _read(value, kind)
        if tree is not None and random.random() < 0.75:
            value = _write(_mutated(tree[0], random, 0), kind, random)
        else:
            value = _mutated_bytes(value, kind, random, others)
    return value


def _read(value: bytes, kind: str) -> list[Tree] | None:
    try:
        if kind == "json":
            return [json.loads(value)]
        if kind == "msgpack":
            return [msgspec.msgpack.decode(value)]
    except (ValueError, RecursionError, msgspec.MsgspecError):
        pass
    return None


def _write(tree: Tree, kind: str, random: Random) -> bytes:
    try:
        if kind == "msgpack":
            return msgspec.msgpack.encode(tree)
        text = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return b""
    if "@@" in text:
        text = text.replace('"@@"', random.choice(_JSON_TEXTS), 1)
    if random.random() < 0.1:
        text = _twice(text, random)
    return text.encode(errors="surrogatepass")


def _twice(text: str, random: Random) -> str:
    """One field of the JSON ``text`` given twice."""
    at = [index for index, sign in enumerate(text) if sign == ","]
    if not at:
        return text
    start = random.choice(at)
    end = text.find(",", start + 1)
    return text[:end] + text[start:end] + text[end:] if end > 0 else text


def _mutated(node: Tree, random: Random, depth: int) -> Tree:
    """``node`` with one thing in or at it changed."""
    is_inside = isinstance(node, dict | list) and len(node) > 0 and random.random() < 0.8
    if isinstance(node, dict) and is_inside:
        return _mutated_map(dict(node), random, depth)
    if isinstance(node, list) and is_inside:
        return _mutated_list(list(node), random, depth)
    return _odd(node, random)


def _mutated_map(node: dict[Any, Tree], random: Random, depth: int) -> Tree:
    name = random.choice(list(node))
    match random.randrange(8):
        case 0:
            del node[name]
        case 1:
            node[random.choice([word for word in WORDS if isinstance(word, str)])] = node[name]
        case 2:
            node[random.choice(WORDS)] = node.pop(name)
        case 3 if random.random() < 0.3:
            node |= {f"{name}{number}": node[name] for number in range(random.choice((9, 300)))}
        case _:
            node[name] = _mutated(node[name], random, depth + 1)
    return node


def _mutated_list(node: list[Tree], random: Random, depth: int) -> Tree:
    at = random.randrange(len(node))
    match random.randrange(8):
        case 0:
            del node[at]
        case 1:
            node.insert(at, node[at])
        case 2:
            node.append(_odd(node[at], random))
        case 3 if random.random() < 0.3:
            node += [node[at]] * random.choice((17, 600))
        case _:
            node[at] = _mutated(node[at], random, depth + 1)
    return node


def _odd(node: Tree, random: Random) -> Tree:
    match random.randrange(10):
        case 0:
            return [node]
        case 1:
            return {"a": node}
        case 2:
            return "@@"
        case 3 if isinstance(node, int | float) and not isinstance(node, bool):
            return random.choice((node + 1, node - 1, -node)) if abs(node) < 2**62 else 0
        case 4 if isinstance(node, str):
            word = random.choice([word for word in WORDS if isinstance(word, str)])
            return random.choice((node + word, word + node, node.upper(), node[: len(node) // 2]))
        case 5 if isinstance(node, bytes):
            return _mutated_bytes(node, "bytes", random, [])
        case 6:
            return random.choice(([], {}, [[]], {"": {}}))
    return random.choice(WORDS if random.random() < 0.5 else NUMBERS)


def _mutated_bytes(value: bytes, kind: str, random: Random, others: list[bytes]) -> bytes:
    at = random.randrange(len(value) + 1)
    end = min(len(value), at + random.choice((1, 1, 2, 4, 9, 64)))
    steps: list[Callable[[], bytes]] = [
        lambda: value[:at],
        lambda: value[:at] + value[end:],
        lambda: value[:at] + bytes([random.randrange(256)]) + value[end:],
        lambda: value[:at] + random.choice(_SIGNS) + value[at:],
        lambda: value[:at] + value[at:end] * random.choice((2, 3, 50)) + value[end:],
        lambda: value[:at] + random.choice(WORDS if random.random() < 0.9 else _JSON_TEXTS).encode() + value[end:],
        lambda: value + value,
        lambda: value[at:] + value[:at],
    ]
    if kind == "msgpack":
        steps += [lambda: value[:at] + random.choice(_HEADS) + value[at + random.randrange(6) :]] * 4
    if others:
        steps += [lambda: value[:at] + (other := random.choice(others))[random.randrange(len(other) + 1) :]] * 2
    return random.choice(steps)()
