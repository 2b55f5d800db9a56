"""Bugs planted on purpose, to see that the simulator finds them: ``python -m tests.sim planted``."""

from typing import Final

from . import domain, engine, hard, limits, shares, sink
from .plant import Plant, PlantError

PLANTS: Final[dict[str, Plant]] = {
    plant.name: plant
    for plant in (*engine.PLANTS, *domain.PLANTS, *limits.PLANTS, *shares.PLANTS, *hard.PLANTS, *sink.PLANTS)
}
"""By name."""

NOT_YET: Final[dict[str, str]] = {}
"""What cannot be planted yet, and why."""

__all__ = ["NOT_YET", "PLANTS", "Plant", "PlantError"]
