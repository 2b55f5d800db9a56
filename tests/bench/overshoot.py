"""Ten times a key's limit, offered to the gates of four processes for a minute: how much passes beyond the limit.

Allowed are, in that time, what a full bucket holds and what it drains (requirements, section 3); each gate alone would
let that much through, so all that holds them back together are the worker's decisions.
"""

import asyncio
import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from sluicegate_schemas.limits import RateLimits
from tests.bench import limited_node, obeying, system
from tests.bench.decisions import python
from tests.bench.session import Session

_NODES: Final = 4
_SECONDS: Final = 60.0
_LIMIT: Final = RateLimits(requests_per_second=100, burst=100, requests_per_minute=6_000)
_TIMES: Final = 10


def _allowed(seconds: float) -> float:
    """The tighter of the two buckets."""
    return min(_LIMIT.burst + _LIMIT.requests_per_second * seconds, _LIMIT.requests_per_minute * (1 + seconds / 60))


def nodes(bootstrap: str, seconds: float = _SECONDS) -> list[limited_node.Node]:
    """What each node saw."""
    prefix, name = system.fresh_prefix(), limited_node.KEY
    commands = [
        system.organization_put(limited_node.ORGANIZATION, _LIMIT),
        system.key_put(name, limited_node.ORGANIZATION, obeying.sha256_of(name)),
    ]
    asyncio.run(system.prepare(bootstrap, prefix, commands=commands))
    asyncio.run(system.publish_catalogue(bootstrap, prefix))
    with tempfile.TemporaryDirectory() as folder, system.Worker(bootstrap, prefix, Path(folder)) as worker:
        asyncio.run(system.until_shared([worker]))
        per_s = _LIMIT.requests_per_second * _TIMES / _NODES
        running = [python("limited_node", bootstrap, prefix, f"node-{n}", per_s, seconds) for n in range(_NODES)]
        try:
            for one in running:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            for one in running:
                assert one.stdin is not None
                one.stdin.write("go\n")
                one.stdin.flush()
            found = [one.communicate(timeout=seconds + 60)[0] for one in running]
            worker.check()
        finally:
            for one in running:
                one.kill()
                one.wait()
    return [limited_node.Node(*json.loads(line)) for line in found]


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round. Raises AssertionError where more passed than the gates' stated bound."""
    found = nodes(session.bootstrap)
    allowed = _allowed(_SECONDS)
    beyond = max(0.0, sum(one.admitted for one in found) - allowed)
    bounds = [one.bound for one in found if one.bound is not None]
    assert bounds, "no decision came"
    assert beyond <= max(bounds), f"{beyond:g} requests passed beyond the limit, the stated bound is {max(bounds)}"
    figures = {"overshoot_pct": beyond / allowed * 100, "overshoot_bound_pct": max(bounds) / allowed * 100}
    return {name: figure for name, figure in figures.items() if name in wanted}
