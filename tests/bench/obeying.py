"""A gate that follows the log and says when it obeys: ``python -m tests.bench.obeying BOOTSTRAP PREFIX``.

Prints ``ready``, and when its input ends, as JSON, (key, time in ns, when the event that caused it was logged, in ms)
of each block that it obeyed: it has refused a request of that key by then.
"""

import asyncio
import hashlib
import json
import sys
import time
from typing import NamedTuple

from sluicegate import Brokers, Follower, FollowerSettings
from sluicegate.follower import Change
from sluicegate.gate import Gate
from sluicegate_schemas.wire_decision import WireDecision


class Obeyed(NamedTuple):
    """One block in force, in UTC epoch time: of one machine, so that the broker's and all processes' are the same."""

    api_key_id: str
    at_ns: int
    caused_ms: int


def secret_of(api_key_id: str) -> str:
    """A key of this name has this secret."""
    return f"sk_live_{api_key_id}_of_the_bench"


def sha256_of(api_key_id: str) -> str:
    """What the key's entitlement holds of it."""
    return hashlib.sha256(secret_of(api_key_id).encode()).hexdigest()


async def main(bootstrap: str, prefix: str) -> None:
    """Follows until its input ends."""
    obeyed: list[Obeyed] = []
    follower = Follower(Brokers(bootstrap), FollowerSettings(topic_prefix=prefix))
    gate = Gate(follower)

    def on_change(change: Change) -> None:
        decided = change.record
        if isinstance(decided, WireDecision) and decided.verdict == "block" and decided.cause is not None:
            answer = gate.check(secret_of(decided.scope.id), "search.knn")
            if answer.status == 429 and answer.decision_id == decided.decision_id:
                obeyed.append(Obeyed(decided.scope.id, time.time_ns(), decided.cause.logged_at_ms))

    follower.listen(on_change)
    async with follower:
        assert await follower.wait_ready(60), "the follower caught up"
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
    sys.stdout.write(json.dumps(obeyed) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
