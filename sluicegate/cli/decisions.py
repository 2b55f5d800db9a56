"""Finds a decision by its id: on the decisions topic, else in ClickHouse's history of them."""

from typing import Final

from sluicegate_schemas.wire_decision import to_record

from ..errors import ClickHouseError, NotFoundError
from ..operator.decisions import Found, find_on_topic, from_row
from .clickhouse import ClickHouse
from .session import Session

_QUERY: Final = "SELECT * FROM decision FINAL WHERE decision_id = {id:String} ORDER BY version DESC LIMIT 1"


async def find_decision(session: Session, decision_id: str) -> Found:
    """The decision with that id. Raises NotFoundError where neither place holds it."""
    if (found := await find_on_topic(session, decision_id)) is not None:
        return found
    missing = ["it is no longer on the decisions topic, where only the newest of each scope and limit stays"]
    try:
        rows = await ClickHouse.from_environment(session.environment).rows(_QUERY, {"id": decision_id})
    except ClickHouseError as error:
        raise NotFoundError(
            f"decision {decision_id}: {missing[0]}; ClickHouse, which keeps all of them, {error}"
        ) from None
    if not rows:
        raise NotFoundError(
            f"there is no decision {decision_id}: neither on the decisions topic nor in ClickHouse, which "
            "keeps them for 25 months"
        )
    return Found(to_record(from_row(rows[0])), "clickhouse", True, missing)
