"""All commands together."""

import typer

from . import tail, usage, why
from .command import group
from .doctor import examine

app: typer.Typer = group("sluicegate", "Operates Sluicegate: accounts, plans and limits, and what became of them.")
for part in (usage, tail, why, examine):
    part.add_to(app)
