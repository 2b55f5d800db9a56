"""One API node whose callers offer more than a key's limit: ``python -m tests.bench.limited_node BOOTSTRAP PREFIX NODE
EVENTS_PER_S SECONDS``. Begins when its input says so; prints as JSON what it admitted, and the bound that its gate
states."""

import asyncio
import json
import sys
import time
from typing import Final, NamedTuple

from sluicegate import Brokers, Follower, FollowerSettings, Publisher, PublisherSettings
from sluicegate.clock import epoch_ms
from sluicegate.gate import Gate
from tests.bench import load, obeying

KEY: Final = "key_limited"
ORGANIZATION: Final = "org_limited"
_OPERATION: Final = "search.knn"
_NODES: Final = 4


class Node(NamedTuple):
    """``bound`` is of all nodes together, None where no decision came."""

    offered: int
    admitted: int
    bound: int | None


async def _call(gate: Gate, publisher: Publisher, per_s: float, seconds: float) -> Node:
    offered = admitted = 0
    secret, began = obeying.secret_of(KEY), time.monotonic()
    fields = load.fields_of(ORGANIZATION, KEY, _OPERATION, None)
    while (elapsed := time.monotonic() - began) < seconds:
        for _ in range(int(elapsed * per_s) - offered):
            offered += 1
            answer = gate.check(secret, _OPERATION)
            if answer.allowed:
                admitted += 1
                running = gate.begin(answer)
                load.publish(publisher, fields, epoch_ms())
                gate.end(running, 200)
        await asyncio.sleep(0.002)
    bound = gate.bound(offered_per_s=int(_NODES * per_s))
    return Node(offered, admitted, None if bound is None else bound.requests)


async def main(bootstrap: str, prefix: str, node: str, per_s: float, seconds: float) -> None:
    """Calls for so many seconds."""
    publisher = Publisher(PublisherSettings(bootstrap_servers=bootstrap, node=node, topic_prefix=prefix))
    follower = Follower(Brokers(bootstrap), FollowerSettings(topic_prefix=prefix))
    gate = Gate(follower)
    async with publisher, follower:
        assert await follower.wait_ready(60), "the follower caught up"
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        result = await _call(gate, publisher, per_s, seconds)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    _bootstrap, _prefix, _node, *_numbers = sys.argv[1:]
    asyncio.run(main(_bootstrap, _prefix, _node, *map(float, _numbers)))
