"""The usage agent: hands each batch of the usage topic to the engine."""

from typing import Any

from sluicegate_schemas.topics import USAGE

from ..engine.batching import BatchApp, BatchSchema
from ..engine.engine import Engine


def add_usage_agent(app: BatchApp, engine: Engine) -> None:
    """Adds the agent to ``app``."""
    topic = app.topic(engine.settings.topic(USAGE.name), schema=BatchSchema())

    @app.agent(topic, name="usage")
    async def usage(stream: Any) -> None:
        async for event in stream.noack().events():
            # Faust acknowledges a message whose agent raised, and loses it: what can fail fails inside the engine.
            engine.fetched(event.value, event)
