"""The organizations and keys that the workers know, as commands need them."""

from ..operator.known import Known
from ..operator.known import read_known as read
from .screen import note
from .session import Session


async def read_known(session: Session) -> Known:
    """Everything that gates know, as of now; what cannot be read is left out and counted aside."""
    known, unreadable = await read(session)
    if unreadable:
        note(f"{unreadable} records of the entitlements topic cannot be read and are left out: use the newest version")
    return known
