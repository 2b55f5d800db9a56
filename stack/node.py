"""One API node as a process of its own: the example service, and its log of what it published and obeys.

``python -m stack.node --port PORT --log FILE --node NAME``; the brokers come from the environment, as for any service.
A service of one's own would call ``Sluicegate.from_environment``; this one is put together by hand, for its log. Only
loopback is served. ``GET /gate?offered_per_s=…`` says how its gate is and the bound that it states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec
import typer
import uvicorn

from examples.service import create_app
from sluicegate import Brokers, Follower, FollowerSettings, Gate, Publisher, PublisherSettings, Sluicegate
from sluicegate.clock import epoch_ms
from sluicegate.follower import Change
from sluicegate.middleware import App, Receive, Scope, Send
from sluicegate.publisher import Position
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.topics import PREFIX_DEFAULT
from sluicegate_schemas.wire_decision import WireDecision
from stack.node_log import Applied, NodeLog, Published, Started
from stack.ports import LOOPBACK

BUFFER_EVENTS_DEFAULT = 100_000


def applied(change: Change, at_ms: int) -> Applied | None:
    """The line for a decision that the gate obeys from ``at_ms`` on; None for any other change."""
    decision = change.record
    if not isinstance(decision, WireDecision):
        return None
    cause = decision.cause
    return Applied(
        decision.decision_id,
        decision.scope.text(),
        decision.limit_name,
        decision.verdict,
        at_ms,
        cause.ts_ms if cause else None,
        cause.logged_at_ms if cause else None,
    )


def with_gate_told(app: App, gate: Gate) -> App:
    """``app``, and one more path that tells of the gate."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/gate":
            await app(scope, receive, send)
            return
        offered = int(parse_qs(scope["query_string"].decode("latin-1")).get("offered_per_s", ["0"])[0])
        state, bound = gate.state(), gate.bound(offered_per_s=offered)
        content: dict[str, Any] = {**state._asdict(), "lag": state.lag._asdict(), "bound": bound and bound._asdict()}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": msgspec.json.encode(content)})

    return told


def main(
    port: Annotated[int, typer.Option(min=1, max=65535)],
    log: Annotated[Path, typer.Option(help="Appended to")],
    node: Annotated[str, typer.Option(help="The node's name")],
    topic_prefix: Annotated[str, typer.Option()] = PREFIX_DEFAULT,
    spool: Annotated[Path | None, typer.Option(help="Usage waits there while Kafka is away, else in memory")] = None,
    buffer_events: Annotated[int, typer.Option(min=1, help="Events held in memory")] = BUFFER_EVENTS_DEFAULT,
) -> None:
    """Serve until SIGTERM; what was metered is sent before the end."""
    node_log = NodeLog(log)
    node_log.write(Started(node, epoch_ms()))

    def tap(event: WireEvent, place: Position) -> None:
        node_log.write(Published(place.producer_id, place.producer_epoch, place.sequence, place.index, event))

    def on_change(change: Change) -> None:
        if (line := applied(change, epoch_ms())) is not None:
            node_log.write(line)

    brokers = Brokers.from_environment()
    settings = PublisherSettings(
        brokers=brokers,
        node=node,
        topic_prefix=topic_prefix,
        overflow="drop" if spool is None else "spool",
        spool_directory=spool,
        buffer_events_max=buffer_events,
    )
    publisher = Publisher(settings, tap=tap)
    follower = Follower(brokers, FollowerSettings(topic_prefix=topic_prefix), on_change=on_change)
    gate = Gate(follower)
    try:
        uvicorn.run(
            with_gate_told(create_app(Sluicegate(publisher, follower, gate)), gate),
            host=LOOPBACK,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            h11_max_incomplete_event_size=32 * 1024,
        )
    finally:
        node_log.close()


if __name__ == "__main__":
    typer.run(main)
