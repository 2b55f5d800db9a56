"""``sluicegate key``: API keys."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from sluicegate_schemas.accounts import KEY_SCOPES, KeyScope

from ..errors import ConfigurationError
from ..operator.commands import Fields
from ..operator.known import check_key_is_free, key_id, organization_id
from ..operator.new_key import NewKeyShown, new_key
from ..operator.send import WAIT_S_DEFAULT
from .change import By, Reason, Sender, Wait, change
from .command import command, group
from .exits import CommandError, Exit
from .known import read_known
from .organizations import Organization
from .session import Session

Key = Annotated[str, typer.Argument(metavar="key_…")]

Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="What it may read in the usage API, each once; none: nothing. Default: all."),
]

app = group("key", "API keys.")


class Mode(StrEnum):
    """What a key is for; a test key spends no credits."""

    LIVE = "live"
    TEST = "test"


@command(app, "new", prints=NewKeyShown)
async def new(
    session: Session,
    organization: Organization,
    mode: Mode = Mode.LIVE,
    scope: Scopes = None,
    for_file: Annotated[bool, typer.Option("--for-file", help="Send nothing; print the line for a file.")] = False,
    by: By = None,
    reason: Reason = "",
    wait: Wait = WAIT_S_DEFAULT,
) -> None:
    """Make a key, send its hash, and show its secret, this once, when a worker has obeyed."""
    key = new_key(organization_id(organization), mode.value)
    scopes = scopes_of(scope)
    outcome = None
    if not for_file:
        account = (await read_known(session)).organization(organization).account_id
        fields = key_fields(key.api_key_id, organization, account)
        try:
            outcome = await Sender(by, reason, None, wait).send(
                session,
                {"kind": "key.put", **fields, "key_sha256": key.key_sha256, "mode": mode.value, "scopes": scopes},
            )
        except CommandError as error:
            if error.exit_code != Exit.UNCONFIRMED:
                raise
            raise CommandError(
                f"no worker answered, so the secret of {key.api_key_id} is not shown: revoke that key and make another",
                Exit.UNCONFIRMED,
            ) from None
    shown = NewKeyShown(
        api_key_id=key.api_key_id,
        organization_id=organization,
        mode=mode.value,
        secret=key.secret,
        key_sha256=key.key_sha256,
        outcome=outcome,
        scopes=scopes,
    )
    of_file = "" if scopes is None else f", scopes = {json.dumps(scopes)}"
    entry = f'{{ id = "{key.api_key_id}", sha256 = "{key.key_sha256}", mode = "{mode.value}"{of_file} }}'
    lines = [f"secret (shown this once; hand it to the customer): {key.secret}"]
    lines.append(f"for the accounts file: {entry}" if for_file else f"key: {key.api_key_id} of {organization}")
    session.screen.record(shown, lines)


@change(app, "put")
async def put(
    session: Session,
    key: Key,
    organization: Organization,
    sha256: Annotated[str, typer.Option(help="The SHA-256 of its secret, in hexadecimal; never the secret.")],
    mode: Mode = Mode.LIVE,
    scope: Scopes = None,
) -> Fields:
    """Make a key known whose secret was made elsewhere, by its hash; or set the mode and scopes of one, both."""
    known = await read_known(session)
    fields = key_fields(key_id(key), organization, known.organization(organization_id(organization)).account_id)
    check_key_is_free(organization, key, known.keys.get(key), known.key_of_hash(sha256))
    return {"kind": "key.put", **fields, "key_sha256": sha256, "mode": mode.value, "scopes": scopes_of(scope)}


@change(app, "revoke")
async def revoke(session: Session, key: Key) -> Fields:
    """End a key: gates refuse it; usage that it still reports is counted."""
    found = (await read_known(session)).key(key_id(key))
    return {"kind": "key.revoke", **key_fields(key, found.organization_id, found.account_id)}


def scopes_of(given: list[str] | None) -> tuple[KeyScope, ...] | None:
    """The scopes that ``--scope`` names; None: all. Raises ConfigurationError for one that is not known."""
    if not given:
        return None
    if given == ["none"]:
        return ()
    scopes = tuple(one for name in given for one in KEY_SCOPES if one == name)
    if len(scopes) != len(given) or len(set(scopes)) != len(scopes):
        raise ConfigurationError(f"--scope: each is one of {', '.join(KEY_SCOPES)}, or it is none")
    return scopes


def key_fields(api_key_id: str, organization: str, account: str) -> Fields:
    """What a command about a key names."""
    return {"api_key_id": api_key_id, "organization_id": organization, "account_id": account}
