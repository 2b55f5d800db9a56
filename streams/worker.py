"""Builds a worker: a Faust app, the engine, the agents, and the attendant that watches them."""

from functools import partial

from .agents.usage import add_usage_agent
from .attendant import Attendant
from .engine.batching import BatchApp, batch_app
from .engine.engine import Engine, MachineFactory
from .engine.garbage import set_aside
from .engine.sight import Sight
from .settings import Settings
from .topics import wait_for_topics
from .worker_metrics import WorkerMetrics


def build_worker(settings: Settings, machine_factory: MachineFactory) -> BatchApp:
    """A worker whose partitions run the machines of ``machine_factory``. Start it with Faust's command line."""
    engine = Engine(settings, machine_factory, set_aside)
    sight = Sight(engine)
    attendant = Attendant(settings, sight, [WorkerMetrics(sight)])
    app = batch_app(
        settings.group,
        brokers=settings.brokers,
        positions=engine.positions,
        prepare=partial(wait_for_topics, settings),
        health=attendant.health,
        attend=attendant.start,
        session_s=settings.session_s,
        datadir=settings.data_dir,
        fetch_wait_ms=settings.fetch_wait_ms,
        topic_partitions=settings.partitions,
    )
    engine.install(app)
    add_usage_agent(app, engine)
    return app
