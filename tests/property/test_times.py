"""Times are read the same by the short way for the usual form as by the standard library."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.bounds import EPOCH_MS_MAX, EPOCH_MS_MIN, from_epoch_ms, parse_time

texts = st.builds(
    lambda at, seconds, fraction, zone: f"{at:%Y-%m-%dT%H:%M}:{seconds:02d}{fraction}{zone}",
    st.datetimes(datetime(2019, 12, 30), datetime(2100, 1, 2)),  # noqa: DTZ001 - the zone is drawn apart
    st.integers(0, 61),
    st.sampled_from(["", ".1", ".123", ".999", ".000", ".1234", ".123456789"]),
    st.sampled_from(["Z", "+01:00", "-00:30"]),
)


@given(texts)
def test_a_time_is_the_one_that_the_standard_library_reads(text: str) -> None:
    try:
        expected = datetime.fromisoformat(text)
    except ValueError:
        expected = None
    epoch_ms = None if expected is None else (expected - from_epoch_ms(0)) // timedelta(milliseconds=1)
    for _ in range(2):  # the minute is remembered from the first to the second
        if epoch_ms is None or not EPOCH_MS_MIN <= epoch_ms < EPOCH_MS_MAX:
            with pytest.raises(ValueError, match="must"):
                parse_time(text)
        else:
            assert parse_time(text) == epoch_ms
