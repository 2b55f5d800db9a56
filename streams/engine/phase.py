"""Where an owner of a partition stands."""

from enum import Enum, auto


class Phase(Enum):
    """From its assignment (RECOVERING) to its end (OVER); PARKED: given back, and its claim may still stand."""

    RECOVERING = auto()
    RUNNING = auto()
    PARKED = auto()
    OVER = auto()
