"""What operators do and see; off until operators are configured (docs/api.md)."""

from . import catalogues, changes, looks, organizations, system
from .commands import router as commands

ROUTERS = (commands, changes.router, organizations.router, catalogues.router, looks.router, system.router)
