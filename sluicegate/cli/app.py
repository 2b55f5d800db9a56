"""All commands together."""

import typer

from . import (
    budgets,
    catalogs,
    doctor,
    fit,
    grants,
    keys,
    organizations,
    overrides,
    plans,
    pools,
    replay,
    tail,
    usage,
    why,
)
from .command import ROOT, group

app: typer.Typer = group(ROOT, "Operates Sluicegate: accounts, plans and limits, and what became of them.")
for nouns in (organizations.app, keys.app, plans.app):
    app.add_typer(nouns)
for part in (grants, overrides, budgets):
    part.add_to(app)
for nouns in (pools.app, catalogs.app):
    app.add_typer(nouns)
for look in (usage, tail, why, replay, fit, doctor):
    look.add_to(app)
