"""What operators do and see; off until operators are configured (docs/api.md)."""

from . import catalogues, changes, doctor, files, live, logs, looks, organizations, system
from .commands import router as commands

ROUTERS = (
    commands,
    changes.router,
    organizations.router,
    catalogues.router,
    files.router,
    logs.router,
    looks.router,
    live.router,
    system.router,
    doctor.router,
)
