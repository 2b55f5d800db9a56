"""How a gate is, in figures: how fresh what it knows, and how far limits may be passed."""

from typing import NamedTuple

from ..follower.lags import LagFigures


class GateState(NamedTuple):
    """A snapshot. ``lag`` is that of decisions, see ``Lags``."""

    ready: bool
    staleness_ms: int | None
    """Since the topics' broker last answered; None: it never did, or nothing can go stale."""
    is_stale: bool
    """So long that plans' failure modes are in force."""
    lag: LagFigures
    in_flight: int
    """Requests that this process serves."""
    reserved_micro: int
    """What soft limits hold back for them."""
    keys: int
    """Keys with a bucket that is not full."""
    forgotten: int
    """Keys, subjects and providers that were forgotten before their time, since memory is bounded."""


class Bound(NamedTuple):
    """The most requests that all gates together admit beyond a limit (requirements, section 3): what is offered to them
    until a block is in force, and what runs by then. It is carried as debt, so that the long-run rate is exact."""

    requests: int
    lag_ms: int
    """From a request's end to the block: publishing, and the worst of the measured lags."""
