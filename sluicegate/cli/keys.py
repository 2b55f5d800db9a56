"""``sluicegate key``: API keys."""

from enum import StrEnum
from typing import Annotated

import typer

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
    for_file: Annotated[bool, typer.Option("--for-file", help="Send nothing; print the line for a file.")] = False,
    by: By = None,
    reason: Reason = "",
    wait: Wait = WAIT_S_DEFAULT,
) -> None:
    """Make a key, send its hash, and show its secret, this once, when a worker has obeyed."""
    key = new_key(organization_id(organization), mode.value)
    outcome = None
    if not for_file:
        account = (await read_known(session)).organization(organization).account_id
        fields = key_fields(key.api_key_id, organization, account)
        try:
            outcome = await Sender(by, reason, None, wait).send(
                session, {"kind": "key.put", **fields, "key_sha256": key.key_sha256, "mode": mode.value}
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
    )
    entry = f'{{ id = "{key.api_key_id}", sha256 = "{key.key_sha256}", mode = "{mode.value}" }}'
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
) -> Fields:
    """Make a key known whose secret was made elsewhere, by its hash."""
    known = await read_known(session)
    fields = key_fields(key_id(key), organization, known.organization(organization_id(organization)).account_id)
    check_key_is_free(organization, key, known.keys.get(key), known.key_of_hash(sha256))
    return {"kind": "key.put", **fields, "key_sha256": sha256, "mode": mode.value}


@change(app, "revoke")
async def revoke(session: Session, key: Key) -> Fields:
    """End a key: gates refuse it; usage that it still reports is counted."""
    found = (await read_known(session)).key(key_id(key))
    return {"kind": "key.revoke", **key_fields(key, found.organization_id, found.account_id)}


def key_fields(api_key_id: str, organization: str, account: str) -> Fields:
    """What a command about a key names."""
    return {"api_key_id": api_key_id, "organization_id": organization, "account_id": account}
