"""The usage API of a run: ``python -m api`` with a log of what it published, as every node of a run has.

``python -m stack.usage_api --log FILE --node NAME``; all else comes from the environment.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from api.serve import LINGER_MS, run, serve
from api.settings import ApiSettings
from sluicegate import Follower, FollowerSettings, Gate, Publisher, PublisherSettings, Sluicegate
from sluicegate.clock import epoch_ms
from sluicegate.publisher import Position
from sluicegate_schemas.envelope import WireEvent
from stack.node_log import NodeLog, Published, Started


def main(
    log: Annotated[Path, typer.Option(help="Appended to")],
    node: Annotated[str, typer.Option(help="The node's name")],
) -> None:
    """Serve until SIGTERM; what was metered is sent before the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    node_log = NodeLog(log)
    node_log.write(Started(node, epoch_ms()))

    def tap(event: WireEvent, place: Position) -> None:
        node_log.write(Published(place.producer_id, place.producer_epoch, place.sequence, place.index, event))

    settings = ApiSettings.from_environment()
    brokers, prefix = settings.process.brokers, settings.process.topic_prefix
    own = PublisherSettings(
        brokers=brokers, node=node, topic_prefix=prefix, linger_ms_min=LINGER_MS, linger_ms_max=LINGER_MS
    )
    publisher = Publisher(own, tap=tap)
    follower = Follower(brokers, FollowerSettings(topic_prefix=prefix))
    try:
        run(serve(settings, Sluicegate(publisher, follower, Gate(follower))))
    finally:
        node_log.close()


if __name__ == "__main__":
    typer.run(main)
