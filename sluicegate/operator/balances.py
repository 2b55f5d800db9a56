"""The balances of some organizations and keys, of all months that the topic keeps."""

from collections.abc import Collection

from pydantic import ValidationError

from sluicegate_schemas.outputs import Balance
from sluicegate_schemas.topics import BALANCES

from ..errors import SluicegateError
from .logs import read_all
from .system import System


async def kept_balances(
    system: System, about: Collection[str], *, account_id: str | None = None, month: str | None = None
) -> list[Balance]:
    """The newest balances of these organizations (as account, as member, and by label) and keys, of one month if named,
    by month, kind, id and label. With ``account_id``, theirs, only its partition is read.

    Raises SluicegateError for one that cannot be read, TopicsMissingError, and KafkaError.
    """
    newest: dict[bytes, Balance] = {}
    async for record in read_all(system.brokers, system.topic(BALANCES), account_id=account_id):
        if record.key is None or not _is_about(record.key, about):
            continue
        if record.value is None:
            newest.pop(record.key, None)
            continue
        balance = _read(record.value, f"{record.topic}/{record.partition}/{record.offset}")
        if balance.id in about and month in (None, balance.month):
            known = newest.get(record.key)
            if known is None or _rank(known) < _rank(balance):
                newest[record.key] = balance
    return sorted(newest.values(), key=place_of)


def place_of(one: Balance) -> tuple[str, str, str, str]:
    """Where it stands in a list."""
    return one.month, one.kind, one.id, one.label or ""


def _is_about(key: bytes, about: Collection[str]) -> bool:
    """By the key alone, ``kind:id:…``: most are of others."""
    parts = key.split(b":", 2)
    return len(parts) == 3 and parts[1].decode("utf-8", "replace") in about


def _read(value: bytes, place: str) -> Balance:
    try:
        return Balance.model_validate_json(value)
    except ValidationError:
        raise SluicegateError(
            f"the balance at {place} cannot be read: use the newest version of this command"
        ) from None


def _rank(balance: Balance) -> tuple[int, int]:
    return balance.sequence.epoch, balance.sequence.counter
