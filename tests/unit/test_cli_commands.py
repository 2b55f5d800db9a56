"""The command line: what it refuses, how it ends, what it prints, and what it never prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from sluicegate.cli import change, grants, keys, pools
from sluicegate.cli import organizations as organizations_
from sluicegate.cli.command import COMMANDS
from sluicegate.cli.exits import MEANINGS, Exit
from sluicegate.cli.organizations import put_fields
from sluicegate.errors import TopicsMissingError
from sluicegate.operator import balances
from sluicegate.operator.known import Known
from sluicegate.operator.organizations import Put
from sluicegate.operator.send import Sent
from sluicegate.operator.submit import ATTEMPTS_MAX
from sluicegate_schemas.accounts import AnyCommand, KeyPut, OrganizationPut, Pool
from sluicegate_schemas.outputs import KeyEntitlement, Position
from tests.command_line import ESCAPE, HERON, MEMBER, SEQUENCE, Worker, applied, refused, reject_with, run
from tests.gating import NOW, NOW_MS

ROOT = Path(__file__).parents[2]
DEFAULT = str(ROOT / "catalogue/default.toml")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    one = Worker()

    async def read_known(_: object) -> Known:
        return Known({"org_heron": HERON, "org_member": MEMBER}, {})

    monkeypatch.setattr(change, "send", one.send)
    for module in (grants, keys, organizations_):
        monkeypatch.setattr(module, "read_known", read_known)
    monkeypatch.setenv("SLUICEGATE_OPERATOR", "ada")
    return one


# ---- how commands end ----


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_command_explains_itself_and_offers_json(path: str) -> None:
    result = run(*path.split(), "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert COMMANDS[path].about


GRANT = ("grant", "put", "org_heron", "g1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*GRANT, "--credits", "0.0000001"), "--credits must be a number of credits with at most six places"),
        ((*GRANT, "--credits", "-5"), "--credits must be a number of credits"),
        ((*GRANT, "--credits", "0"), "credits_micro: "),
        ((*GRANT, "--credits", "5", "--from", "tomorrow"), "--from must be a time"),
        ((*GRANT, "--credits", "5", "--until", "-1d"), "expires_at must lie after effective_at"),
        (("grant", "put", "org_heron", "a b", "--credits", "5"), "grant_id: "),
        (("grant", "put", "heron", "g1", "--credits", "5"), "an organization must look like org_name"),
        (("org", "put", "org_new"), "tier: Field required"),
        (("org", "put", "org_new", "--tier", "gold"), "tier: "),
        (("org", "put", "org_new", "--tier", "pro", "--rates", "1/2"), "--rates must be requests a second/burst/"),
        (("org", "put", "org_new", "--tier", "pro", "--quota", "buckets"), "--quota must be name=value"),
        (("org", "put", "org_new", "--tier", "pro", "--quota", "ducks=1"), "quotas.ducks"),
        (("org", "put", "org_heron", "--tier", "pro", "--account", "org_x"), "never changes"),
        (("boost", "put", "org_heron", "b1", "--until", "+1d"), "a boost needs"),
        (("budget", "put", "org_heron", "day", "--credits", "5", "--label", "x"), "--label must be name=value"),
        (("key", "put", "key_x", "org_heron", "--sha256", "sk_live_oops"), "key_sha256: "),
        ((*GRANT, "--credits", "5", "--by", "a b"), "who acts must be one word"),
        ((*GRANT, "--credits", "5", "--command-id", " "), "--command-id must be"),
        ((*GRANT, "--credits", "5", "--reason", f"{ESCAPE}x"), "reason: "),
        (("usage", "heron"), "usage is of an organization"),
        (("usage", "org_heron", "--month", "2026-13"), "--month must be YYYY-MM"),
        (("why", "a b"), "a decision's id"),
        (("tail", "decisions", "--from", "x"), "--from must be a time"),
        (("catalog", "check", "/nowhere"), "/nowhere cannot be read: No such file"),
        (("catalog", "check", str(ROOT / "examples/accounts.toml")), "accounts.toml: "),
        (("usage", "org_heron", "--topic-prefix", "a b"), "the topic prefix"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_nothing_is_sent(
    arguments: tuple[str, ...], said: str, worker: Worker
) -> None:
    result = run(*arguments)
    assert result.exit_code == Exit.USAGE, result.output
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert "sk_live_oops" not in result.stderr
    assert worker.commands == []

    told = run(*arguments, "--json")
    error = json.loads(told.stderr)["error"]
    assert (told.exit_code, error["code"], error["exit"]) == (Exit.USAGE, "usage", 2)


@pytest.mark.parametrize("arguments", [("tail",), ("tail", "ducks"), ("why",), ("nonsense",), ("usage", "--nonsense")])
def test_a_wrong_command_line_ends_with_the_same_code(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (KafkaConnectionError("nobody there"), Exit.AWAY),
        (TopicsMissingError("topic x does not exist"), Exit.AWAY),
        (TimeoutError(), Exit.AWAY),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_failures_of_the_world_have_codes_of_their_own(
    failure: BaseException, code: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> AsyncIterator[Any]:
        raise failure
        yield

    monkeypatch.setattr(balances, "read_all", fails)
    result = run("usage", "org_heron")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr


def test_a_reader_of_its_pipe_that_has_gone_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sluicegate.cli", "catalog", "check", DEFAULT]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_exit_code_has_its_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_without_its_extra_the_command_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from sluicegate.cli.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr == "error: the command line needs typer: run  pip install 'sluicegate[cli]'\n"


# ---- changes ----


def test_a_change_says_who_why_and_what_became_of_it(worker: Worker) -> None:
    result = run(*GRANT, "--credits", "0.5", "--until", "+7d", "--reason", "goodwill", "--json")
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    (command,) = worker.commands
    assert (command.issued_by, command.reason, command.account_id) == ("ada", "goodwill", "org_heron")
    assert outcome["outcome"] == "applied"
    assert outcome["command_id"] == command.command_id == outcome["trail"]["command_id"]


@pytest.mark.contract("1.2")
def test_a_change_of_a_member_goes_to_the_account_that_pays(worker: Worker) -> None:
    assert run("grant", "put", "org_member", "g1", "--credits", "1").exit_code == 0
    assert worker.commands[0].account_id == "org_heron"


def test_a_refused_change_says_why_without_its_control_signs(worker: Worker) -> None:
    worker.answer = refused
    result = run(*GRANT, "--credits", "5")
    assert result.exit_code == Exit.REFUSED
    assert result.stderr == "error: refused: grant_id: is \\x1b[2J no \\u202e grant\n"


def test_a_change_without_an_answer_says_how_to_repeat_it(worker: Worker) -> None:
    worker.answer = lambda _: Sent("unconfirmed", None)
    result = run(*GRANT, "--credits", "5", "--wait", "0.1")
    assert result.exit_code == Exit.UNCONFIRMED
    assert f"--command-id {worker.commands[0].command_id}" in result.stderr


def test_an_organization_that_is_not_known_is_not_found(worker: Worker) -> None:
    result = run("grant", "put", "org_nobody", "g1", "--credits", "5")
    assert result.exit_code == Exit.NOT_FOUND
    assert worker.commands == []


# ---- keys ----


@pytest.mark.contract("1.3")
def test_a_new_keys_secret_is_shown_once_and_never_sent(worker: Worker) -> None:
    result = run("key", "new", "org_heron", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    (command,) = worker.commands
    assert isinstance(command, KeyPut)
    assert command.key_sha256 == shown["key_sha256"]
    assert shown["secret"] not in command.model_dump_json()
    assert result.output.count(shown["secret"]) == 1


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ((), None),
        (("none",), ()),
        (("usage:read",), ("usage:read",)),
        (("alerts:read", "usage:read"), ("alerts:read", "usage:read")),
    ],
)
def test_a_new_key_may_read_what_its_scopes_say(
    given: tuple[str, ...], scopes: tuple[str, ...] | None, worker: Worker
) -> None:
    result = run("key", "new", "org_heron", "--json", *(f"--scope={name}" for name in given))
    assert result.exit_code == 0, result.output
    (command,) = worker.commands
    assert isinstance(command, KeyPut)
    assert command.scopes == scopes
    assert json.loads(result.stdout)["scopes"] == (None if scopes is None else list(scopes))


@pytest.mark.parametrize("given", [("usage:write",), ("none", "usage:read"), ("usage:read", "usage:read")])
def test_a_scope_that_is_none_is_not_sent(given: tuple[str, ...], worker: Worker) -> None:
    result = run("key", "new", "org_heron", *(f"--scope={name}" for name in given))
    assert (result.exit_code, worker.commands) == (Exit.USAGE, [])
    assert "--scope" in result.output


@pytest.mark.parametrize("answer", [refused, lambda _: Sent("unconfirmed", None)])
def test_a_new_key_that_nobody_took_shows_no_secret(answer: Callable[[AnyCommand], Sent], worker: Worker) -> None:
    worker.answer = answer
    result = run("key", "new", "org_heron")
    assert result.exit_code in (Exit.REFUSED, Exit.UNCONFIRMED)
    assert "sk_live_" not in result.output


@pytest.mark.parametrize(
    ("key", "sha256", "said"),
    [("key_finch_1", "b" * 64, "belongs to another organization"), ("key_new", "a" * 64, "is the hash of another key")],
)
@pytest.mark.contract("1.4")
def test_a_key_that_another_account_has_is_not_sent(
    key: str, sha256: str, said: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = KeyEntitlement(
        key_sha256="a" * 64, api_key_id="key_finch_1", organization_id="org_finch", account_id="org_finch",
        mode="live", revoked=True, sequence=SEQUENCE,
    )  # fmt: skip

    async def read_known(_: object) -> Known:
        return Known({"org_heron": HERON}, {"key_finch_1": taken})

    monkeypatch.setattr(keys, "read_known", read_known)
    result = run("key", "put", key, "org_heron", "--sha256", sha256)
    assert (result.exit_code, worker.commands) == (Exit.REFUSED, [])
    assert said in result.output


# ---- organizations ----


def test_put_is_whole_and_keep_changes_only_what_is_given() -> None:
    standing = OrganizationPut(
        kind="organization.put",
        command_id="c1",
        issued_at=NOW,
        issued_by="ada",
        account_id="org_root",
        organization_id="org_heron",
        tier="pro",
        concurrency=7,
        credits_mode="hard",
    )
    put = Put(standing, Position(topic="accounts", partition=0, offset=5), NOW_MS, True)
    kept = put_fields("org_heron", "org_root", put, {"tier": "team", "concurrency": None})
    assert kept == {
        "kind": "organization.put",
        "organization_id": "org_heron",
        "account_id": "org_root",
        "tier": "team",
        "concurrency": 7,
        "credits_mode": "hard",
        "based_on": 5,
    }
    whole = put_fields("org_heron", "org_root", None, {"tier": "team", "concurrency": None})
    assert {*kept} - {*whole} == {"concurrency", "credits_mode", "based_on"}


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["org", "put", "org_heron", "--keep", "--tier", "team"], {"tier": "team"}),
        (["pool", "put", "org_member", "--cap", "9"], {"pool": Pool(cap_micro=9_000_000)}),
    ],
)
def test_a_change_is_made_again_of_what_others_put_meanwhile(
    arguments: list[str], changed: dict[str, Any], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    async def standing(_: object, account: str, organization: str, **__: object) -> Put:
        read.append(len(read))
        command = standing_of(organization, concurrency=read[-1] + 1)
        return Put(command, Position(topic="accounts", partition=0, offset=read[-1]), NOW_MS, True)

    def answer(command: AnyCommand) -> Sent:
        return applied(command) if len(worker.commands) == wins_at else in_conflict(command)

    monkeypatch.setattr(organizations_, "standing_put", standing)
    monkeypatch.setattr(pools, "read_known", organizations_.read_known)
    worker.answer, wins_at = answer, 3
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    last = worker.commands[-1]
    assert isinstance(last, OrganizationPut)
    assert (last.concurrency, last.based_on) == (3, 2)
    assert {name: getattr(last, name) for name in changed} == changed
    worker.commands.clear()
    wins_at = ATTEMPTS_MAX + 1
    result = run(*arguments)
    assert (result.exit_code, len(worker.commands)) == (Exit.CONFLICT, ATTEMPTS_MAX)
    assert "others changed" in result.output


def standing_of(organization: str, **fields: Any) -> OrganizationPut:
    return OrganizationPut(
        kind="organization.put",
        command_id="c1",
        issued_at=NOW,
        issued_by="ada",
        account_id="org_heron",
        organization_id=organization,
        tier="pro",
        **fields,
    )


def in_conflict(command: AnyCommand) -> Sent:
    position = Position(topic="accounts", partition=0, offset=7)
    return Sent("refused", position, reject=reject_with("is not the put that is in force", "based_on", "conflict"))


@pytest.mark.contract("4.8")
def test_what_an_operator_may_give_arrives_as_it_was_meant(worker: Worker) -> None:
    options = ["--credits-per-month", "0.5", "--rates", "10/20/600", "--quota", "buckets=1_000"]
    options += ["--quota", "documents=unlimited", "--feature", "dedicated=true", "--feature", "kinds=a,b"]
    options += ["--failure-mode", "compute=closed", "--failure-mode", "data=allowance:50", "--cap", "9"]
    result = run("org", "put", "org_heron", "--tier", "enterprise", *options)
    assert result.exit_code == 0, result.output
    (put,) = worker.commands
    assert isinstance(put, OrganizationPut)
    assert put.rates is not None
    assert put.failure_modes is not None
    assert put.pool is not None
    assert (put.credits_micro_per_month, put.rates.requests_per_minute) == (500_000, 600)
    assert put.quotas == {"buckets": 1_000, "documents": None}
    assert put.features == {"dedicated": True, "kinds": ("a", "b")}
    assert put.failure_modes["data"].allowance_percent == 50
    assert put.pool.cap_micro == 9_000_000


# ---- catalogues ----


def test_a_catalogue_file_is_checked_without_a_broker() -> None:
    result = run("catalog", "check", DEFAULT, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["version"] == 1
