"""What a fault test shows of a worker that died tells why it died."""

from tests.faults.crash_log import crash_excerpt

CAUSE = '[ERROR] [^---Fetcher]: Crashed reason=IllegalStateError("no assignment")\nTraceback (most recent call last):\n'
STOPPING = "".join(f"[INFO] service {number}: Stopping... \n" for number in range(2_000))
WORKING = "".join(f"[INFO] batch {number} \n" for number in range(2_000))


def test_the_cause_is_shown_with_what_came_before_though_pages_of_stopping_follow() -> None:
    shown = crash_excerpt(WORKING + CAUSE + STOPPING + "[CRITICAL] We experienced a crash!\n")
    assert "batch 1999 \n" + CAUSE in shown
    assert "batch 1979 " not in shown
    assert shown.endswith("[CRITICAL] We experienced a crash!\n")


def test_a_crash_is_shown_rather_than_an_error_that_the_process_survived() -> None:
    survived = "[ERROR] Heartbeat failed\n"
    shown = crash_excerpt(survived + WORKING + CAUSE + STOPPING)
    assert "batch 1999 \n" + CAUSE in shown
    assert survived in shown


def test_the_first_error_is_shown_where_nothing_says_crashed() -> None:
    assert "batch 1999 \n[CRITICAL] STUCK" in crash_excerpt(WORKING + "[CRITICAL] STUCK\n" + STOPPING)


def test_what_is_shown_is_bounded() -> None:
    lines = "[ERROR] " + "x" * 5_000 + "\n"
    assert len(crash_excerpt(lines * 1_000)) < 13_000
    assert len(crash_excerpt(WORKING + CAUSE + STOPPING * 100)) < 13_000


def test_a_log_without_trouble_shows_its_end() -> None:
    assert crash_excerpt(WORKING) == WORKING[-3_000:]
    assert crash_excerpt("") == ""
