"""How processes learn where the broker is."""

from pathlib import Path

import pytest

from sluicegate.brokers import BOOTSTRAP_SERVERS_DEFAULT, Brokers


def test_an_empty_environment_means_the_plain_broker_on_this_machine() -> None:
    options = Brokers.from_environment({}).options()
    assert options == {"bootstrap_servers": BOOTSTRAP_SERVERS_DEFAULT, "security_protocol": "PLAINTEXT"}


def test_a_password_may_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n", "utf-8")
    brokers = Brokers.from_environment(
        {"SLUICEGATE_KAFKA_USERNAME": "worker", "SLUICEGATE_KAFKA_PASSWORD_FILE": str(tmp_path / "password")}
    )
    assert brokers.options()["sasl_plain_password"] == "a secret"
    assert brokers.security_protocol == "SASL_PLAINTEXT"
    assert "a secret" not in repr(brokers)


def test_a_user_without_a_password_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="SLUICEGATE_KAFKA_PASSWORD_FILE"):
        Brokers.from_environment({"SLUICEGATE_KAFKA_USERNAME": "worker"})
