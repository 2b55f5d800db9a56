"""What the faults of a plan do to a history. A new kind is one more entry here and one in ``plan.FAULTS``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sluicegate_schemas.topics import DECISIONS, STATE, USAGE

from .loop import Process
from .plan import Fault, stream
from .strikes import Moment

if TYPE_CHECKING:
    from .play import Stage

_MOMENTS: Final[tuple[Moment, ...]] = ("now", "soon", "soon", "sending", "appended")


def _later(stage: Stage, fault: Fault, undo: Callable[[], object]) -> None:
    stage.world.at(stage.world.now_ms + fault.for_ms, undo)


def _moment(stage: Stage, fault: Fault) -> Moment:
    return stream(stage.plan.seed, "moment", fault.at_ms, fault.kind, fault.target).choice(_MOMENTS)


def _worker_kill(stage: Stage, fault: Fault) -> None:
    worker = stage.workers[fault.target]
    if worker.process is None or not worker.is_running:
        return

    def strike() -> None:
        if not stage.is_peace:
            worker.kill()
            _later(stage, fault, worker.start)

    stage.world.when(worker.process, _moment(stage, fault), strike)


def _worker_stop(stage: Stage, fault: Fault) -> None:
    worker = stage.workers[fault.target]
    worker.stop()
    stage.world.at(stage.world.now_ms + 3_000 + fault.for_ms, worker.start)


def _worker_pause(stage: Stage, fault: Fault) -> None:
    process = stage.workers[fault.target].process

    def strike() -> None:
        if process is not None and not stage.is_peace:
            stage.world.pause(process, fault.for_ms)

    if process is not None:
        stage.world.when(process, _moment(stage, fault), strike)


def _zombie(stage: Stage, fault: Fault) -> None:
    """Stopped with a flush in hand, which it sends when it wakes: by then its partition has moved, or just moves."""
    process = stage.workers[fault.target].process
    wakes_at_a_claim = stream(stage.plan.seed, "zombie", fault.at_ms, fault.target).random() < 0.5

    def strike() -> None:
        if process is not None and not stage.is_peace:
            stage.world.pause(process, fault.for_ms)
            if wakes_at_a_claim:
                stage.world.network.before_claim.append(partial(stage.world.resume, process))

    if process is not None:
        stage.world.when(process, "sending", strike)


def _of_worker(act: Callable[[Stage, Process, int], None]) -> Callable[[Stage, Fault], None]:
    def happen(stage: Stage, fault: Fault) -> None:
        if (process := stage.workers[fault.target].process) is not None:
            act(stage, process, fault.for_ms)

    return happen


def _rebalance(stage: Stage, fault: Fault) -> None:
    stage.world.rebalance(stage.group)


def _group_deleted(stage: Stage, fault: Fault) -> None:
    stage.world.delete_group(stage.group)


def _broker_down(stage: Stage, fault: Fault) -> None:
    stage.world.broker_down(fault.for_ms)


def _disk_full(stage: Stage, fault: Fault) -> None:
    stage.world.disk_full(fault.for_ms)


def _compaction(stage: Stage, fault: Fault) -> None:
    for topic in (STATE.name, DECISIONS.name):
        stage.world.compact(stage.world.prefix + topic, fault.target)


def _hole(stage: Stage, fault: Fault) -> None:
    stage.world.leave_hole(stage.world.prefix + USAGE.name, fault.target)


def _clock_back(stage: Stage, fault: Fault) -> None:
    """Until then, or until there is peace."""
    stage.world.clock_jump(-fault.for_ms)
    _later(stage, fault, lambda: None if stage.is_peace else stage.world.clock_jump(fault.for_ms))


def _leap(stage: Stage, fault: Fault) -> None:
    stage.leap(fault.for_ms)


def _sink_kill(stage: Stage, fault: Fault) -> None:
    sink = stage.sink
    if sink.process is None or not sink.process.alive:
        return

    def strike() -> None:
        if not stage.is_peace:
            sink.kill()
            _later(stage, fault, sink.start)

    draw = stream(stage.plan.seed, "moment", fault.at_ms, fault.kind)
    stage.world.when(sink.process, draw.choice(("now", "soon")), strike)


def _sink_pause(stage: Stage, fault: Fault) -> None:
    """Another sink takes over while this one sleeps, and dies soon after it has woken."""
    if stage.sink.process is not None:
        stage.world.pause(stage.sink.process, fault.for_ms)
    stage.other_sink.start()
    stage.world.at(stage.world.now_ms + fault.for_ms + 700, stage.other_sink.kill)


def _clickhouse_down(stage: Stage, fault: Fault) -> None:
    stage.server.is_down = True
    _later(stage, fault, lambda: setattr(stage.server, "is_down", False))


def _clickhouse_flaky(stage: Stage, fault: Fault) -> None:
    stage.server.is_flaky = True
    _later(stage, fault, lambda: setattr(stage.server, "is_flaky", False))


def _gateway_kill(stage: Stage, fault: Fault) -> None:
    gateway = stage.gateways[fault.target]
    gateway.kill()
    _later(stage, fault, gateway.start)


def _gateway_cut(stage: Stage, fault: Fault) -> None:
    if (process := stage.gateways[fault.target].process) is not None:
        stage.world.cut(process, fault.for_ms)


KINDS: Final[dict[str, Callable[[Stage, Fault], None]]] = {
    "worker kill": _worker_kill,
    "worker stop": _worker_stop,
    "worker pause": _worker_pause,
    "zombie": _zombie,
    "worker cut": _of_worker(lambda stage, process, for_ms: stage.world.cut(process, for_ms)),
    "worker slow": _of_worker(lambda stage, process, for_ms: stage.world.slow(process, for_ms)),
    "replies lost": _of_worker(lambda stage, process, for_ms: stage.world.lose_replies(process, for_ms)),
    "rebalance": _rebalance,
    "group deleted": _group_deleted,
    "broker down": _broker_down,
    "disk full": _disk_full,
    "compaction": _compaction,
    "hole": _hole,
    "clock back": _clock_back,
    "leap": _leap,
    "sink kill": _sink_kill,
    "sink pause": _sink_pause,
    "clickhouse down": _clickhouse_down,
    "clickhouse flaky": _clickhouse_flaky,
    "gateway kill": _gateway_kill,
    "gateway cut": _gateway_cut,
}
GATES_SUFFER: Final = ("broker down", "gateway cut", "gateway kill", "clock back", "leap")
"""Faults during which, and shortly after, a gateway may not have heard of a decision."""
