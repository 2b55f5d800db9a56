"""What the operator's commands would publish, and what they refuse."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluicegate.cli.app import app
from sluicegate.errors import PublishRefusedError
from sluicegate.operator.new_key import new_key
from sluicegate.operator.plans import LEAD_MIN, catalogue_to_publish, commands_to_publish
from sluicegate_schemas.accounts import KeyPut, OrganizationPut
from sluicegate_schemas.bounds import CLOCK_AHEAD_MS_MAX, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.files import load_accounts
from streams.settings import Settings
from tests.gating import CATALOGUE, NOW

ROOT = Path(__file__).parents[2]


def version(number: int, effective_at: datetime) -> Catalogue:
    return CATALOGUE.model_copy(update={"version": number, "effective_at": effective_at})


def plan(published: list[Catalogue], new: Catalogue, lead: timedelta = LEAD_MIN) -> Catalogue | None:
    known = {catalogue.version: catalogue for catalogue in published}
    record = catalogue_to_publish(known, new, now=NOW, lead=lead, by="test")
    return None if record is None else record.catalogue


def test_the_first_catalogue_of_all_may_be_in_force_already() -> None:
    assert CATALOGUE.effective_at < NOW
    assert plan([], CATALOGUE) == CATALOGUE
    assert plan([], CATALOGUE, timedelta(0)) == CATALOGUE


def test_the_same_catalogue_again_writes_nothing() -> None:
    assert plan([CATALOGUE], CATALOGUE) is None
    assert plan([CATALOGUE], CATALOGUE, timedelta(0)) is None


def test_a_lead_is_longer_than_events_may_be_dated_ahead_while_a_worker_does_not_know_the_version() -> None:
    published_ms = to_epoch_ms(NOW)
    unseen_until_ms = published_ms + round(Settings().catalogue_age_max_s * 1000)
    last_rated_by_the_old_card_ms = unseen_until_ms + CLOCK_AHEAD_MS_MAX
    assert to_epoch_ms(NOW + LEAD_MIN) > last_rated_by_the_old_card_ms
    assert timedelta(minutes=6) == LEAD_MIN


@pytest.mark.parametrize("seconds", [0, 60, 359])
def test_a_shorter_lead_is_refused_however_far_ahead_the_version_is(seconds: int) -> None:
    new = version(2, NOW + timedelta(days=1))
    with pytest.raises(PublishRefusedError, match=rf"a lead of {seconds} s is too short .* give 360 s or more"):
        plan([CATALOGUE], new, timedelta(seconds=seconds))
    assert plan([CATALOGUE], new, timedelta(seconds=360)) == new


def test_another_content_under_a_published_version_is_refused() -> None:
    changed = CATALOGUE.model_copy(update={"operations": dict(list(CATALOGUE.operations.items())[:3])})
    with pytest.raises(PublishRefusedError, match="raise version to 2"):
        plan([CATALOGUE], changed)


@pytest.mark.parametrize(("ahead", "taken"), [(360, True), (359, False), (-60, False)])
def test_a_new_version_takes_effect_far_enough_ahead(ahead: int, taken: bool) -> None:
    new = version(2, NOW + timedelta(seconds=ahead))
    if taken:
        assert plan([CATALOGUE], new) == new
    else:
        with pytest.raises(PublishRefusedError, match="must not before"):
            plan([CATALOGUE], new)


def test_versions_take_effect_in_their_order() -> None:
    later = version(3, NOW + timedelta(days=2))
    with pytest.raises(PublishRefusedError, match="after version 3"):
        plan([CATALOGUE, later], version(4, NOW + timedelta(days=1)))
    with pytest.raises(PublishRefusedError, match="below the newest, 3"):
        plan([CATALOGUE, later], version(2, NOW + timedelta(days=3)))


def test_only_commands_that_are_not_published_yet_are_written() -> None:
    commands = load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8"))
    assert commands_to_publish(set(), commands) == commands
    assert commands_to_publish({command.command_id for command in commands[1:]}, commands) == commands[:1]


def test_the_demonstration_accounts_have_the_secrets_that_their_page_lists() -> None:
    commands = load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8"))
    page = (ROOT / "examples/README.md").read_text("utf-8")
    keys = {command.api_key_id: command for command in commands if isinstance(command, KeyPut)}
    assert len(keys) == 7
    for name, key in keys.items():
        secret = f"sk_{key.mode}_demo_{name}"
        assert key.key_sha256 == hashlib.sha256(secret.encode()).hexdigest()
        assert f"`{secret}`" in page
    own = {
        command.organization_id: command.credits_micro_per_month
        for command in commands
        if isinstance(command, OrganizationPut) and command.credits_micro_per_month is not None
    }
    assert own == {"org_wren": 500_000_000}


def test_a_new_key_is_random_and_its_line_makes_it_known() -> None:
    assert new_key("org_x", "live").secret != new_key("org_x", "live").secret
    run = CliRunner().invoke(app, ["key", "new", "org_x", "--mode", "test", "--for-file"])
    assert run.exit_code == 0, run.output
    secret_line, file_line = run.stdout.splitlines()
    secret = secret_line.rpartition(" ")[2]
    entry = file_line.removeprefix("for the accounts file: ")
    head = 'issued_at = 2026-01-01T00:00:00Z\nissued_by = "x"\n[[organizations]]\nid = "org_x"\ntier = "free"\n'
    _, command = load_accounts(f"{head}keys = [{entry}]\n")
    assert isinstance(command, KeyPut)
    assert command.mode == "test"
    assert command.key_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in file_line
