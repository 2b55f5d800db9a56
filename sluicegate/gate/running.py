"""What an admitted request takes while it runs."""

from dataclasses import dataclass, field

from .answer import Admission
from .quantities import Provider
from .reserve import Hold, Reserve
from .subjects import Subject


@dataclass(slots=True)
class Running:
    """What an admitted request takes while it runs; ``Gate.end`` gives it back."""

    admission: Admission
    in_flight: tuple[str, tuple[str, str] | None]
    interval: tuple[Subject, int] | None = None
    providers: list[tuple[Provider, int, int]] = field(default_factory=list)
    holds: list[tuple[Reserve, Hold]] = field(default_factory=list)
    is_over: bool = False

    @property
    def leases(self) -> list[str]:
        """The leases that the request's event has to name."""
        return [lease for _, hold in self.holds for lease in hold.leases]

    @property
    def request_ms_max(self) -> int | None:
        """How long the request may run; None: as long as it likes."""
        return min((most for _, hold in self.holds if (most := hold.request_ms_max) is not None), default=None)

    def ended_ms(self, ts_ms: int) -> int:
        """When the request ended, which is now, by a clock that says ``ts_ms``."""
        for _, hold in self.holds:
            ts_ms = hold.ended_ms(ts_ms)
        return ts_ms
