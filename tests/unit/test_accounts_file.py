"""An accounts file becomes commands, and what is wrong in it is named with its line, without secrets."""

import hashlib

import pytest

from sluicegate_schemas.accounts import (
    BoostPut,
    BudgetLabel,
    BudgetPut,
    CapacityReserve,
    ExemptionPut,
    GrantPut,
    KeyPut,
    KeyRevoke,
    OrganizationPut,
    Pool,
)
from sluicegate_schemas.files import FileError, load_accounts
from sluicegate_schemas.limits import RateLimits

SECRET = "sk_test_0123456789abcdef"
ACCOUNTS = f"""issued_at = 2026-01-01T00:00:00Z
issued_by = "platform"

[[organizations]]
id = "org_acme"
tier = "pro"
credits_per_month = "250.5"
rates = {{ requests_per_second = 7, burst = 9, requests_per_minute = 300 }}
keys = [{{ id = "key_acme_1", secret = "{SECRET}" }}]

[[organizations]]
id = "org_beta"
account = "org_acme"
tier = "free"

[[organizations.keys]]
id = "key_beta_1"
sha256 = "{"ab" * 32}"
revoked = true
"""


@pytest.mark.contract("1.3")
def test_accounts_become_commands_organization_first_and_only_the_hash_of_a_secret_is_kept() -> None:
    commands = load_accounts(ACCOUNTS)
    assert [command.kind for command in commands] == [
        "organization.put", "key.put", "organization.put", "key.put", "key.revoke",
    ]  # fmt: skip
    organization, key, other, _, revoke = commands
    assert isinstance(organization, OrganizationPut)
    assert isinstance(key, KeyPut)
    assert isinstance(other, OrganizationPut)
    assert isinstance(revoke, KeyRevoke)
    assert (organization.account_id, organization.credits_micro_per_month) == ("org_acme", 250_500_000)
    assert organization.rates == RateLimits(requests_per_second=7, burst=9, requests_per_minute=300)
    assert (key.mode, key.key_sha256) == ("test", hashlib.sha256(SECRET.encode()).hexdigest())
    assert (other.account_id, other.organization_id, other.credits_micro_per_month) == ("org_acme", "org_beta", None)
    assert revoke.api_key_id == "key_beta_1"
    assert SECRET not in repr(commands)


def test_the_same_file_gives_the_same_command_ids_and_a_later_file_others() -> None:
    first, again = load_accounts(ACCOUNTS), load_accounts(ACCOUNTS + "\n# a comment\n")
    assert first == again
    later = load_accounts(ACCOUNTS.replace("2026-01-01", "2026-01-02"))
    assert len({command.command_id for command in first + later}) == len(first) + len(later)


@pytest.mark.parametrize(
    ("old", "new", "field", "line"),
    [
        ('tier = "free"', 'tier = "fre"', "organizations[1].tier", 14),
        ('"key_beta_1"', '"key_acme_1"', "organizations[1].keys[0].id", 17),
        ('"org_beta"', '"org_acme"', "organizations[1].id", 12),
        ('"org_beta"', '"org_be|ta"', "organizations[1].id", 12),
        ("revoked = true", 'mode = "lie"', "organizations[1].keys[0].mode", 19),
        ("revoked = true", f'secret = "{SECRET}"', "organizations[1].keys[0]", 16),
        (f'sha256 = "{"ab" * 32}"\n', "", "organizations[1].keys[0]", 16),
        (f'secret = "{SECRET}"', f'secret = "{SECRET}", mode = "live"', "organizations[0].keys[0].mode", 9),
        ("sk_test_", "password ", "organizations[0].keys[0].secret", 9),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "issued_at", 1),
        ('"250.5"', "250.5", "organizations[0].credits_per_month", 7),
    ],
)
def test_what_is_wrong_in_accounts_is_named_without_its_secrets(old: str, new: str, field: str, line: int) -> None:
    assert ACCOUNTS.count(old) == 1
    with pytest.raises(FileError) as refusal:
        load_accounts(ACCOUNTS.replace(old, new))
    assert (refusal.value.field, refusal.value.line) == (field, line)
    assert "0123456789abcdef" not in str(refusal.value)


EVERYTHING = f"""issued_at = 2026-01-01T00:00:00Z
issued_by = "platform"

[[organizations]]
id = "org_acme_labs"
account = "org_acme"
tier = "enterprise"
pool = {{ cap = 50_000, reserved = "5.5" }}

[[organizations]]
id = "org_acme"
tier = "enterprise"
credits_per_month = 1_000_000
shares = {{ metadata = 100, data = 90, search = 60, upload = 30, compute = 20 }}
concurrency = 400
quotas = {{ namespaces = "unlimited", collections = 900 }}
objects_per_batch = 200_000
features = {{ namespace = "dedicated", modalities = ["text", "video"] }}
credits_mode = "hard"
failure_modes = {{ data = "closed", search = {{ mode = "allowance", allowance_percent = 20 }} }}
capacity = {{ search = 20_000 }}
keys = [{{ id = "key_acme_1", sha256 = "{"cd" * 32}" }}]

[[organizations.grants]]
id = "welcome"
credits = 500
priority = 10
effective_at = 2026-01-01T00:00:00Z
expires_at = 2026-02-01T00:00:00Z

[[organizations.boosts]]
id = "launch"
effective_at = 2026-01-05T00:00:00Z
until = 2026-01-06T00:00:00Z
concurrency = 800
quotas = {{ documents = "unlimited" }}
credits = 1_000

[[organizations.exemptions]]
id = "audit"
key = "key_acme_1"
limit = "search_per_minute"
effective_at = 2026-01-05T00:00:00Z
until = 2026-01-06T00:00:00Z

[[organizations.budgets]]
label = {{ name = "pipeline", value = "nightly" }}
period = "day"
credits = 10_000
thresholds_percent = [80, 100]
blocks = true
mode = "hard"
"""


def test_all_that_an_organization_can_have_becomes_commands_and_payers_come_first() -> None:
    commands = load_accounts(EVERYTHING)
    put, _, grant, boost, exemption, budget, capacity, labs = commands
    assert isinstance(put, OrganizationPut)
    assert put.quotas == {"namespaces": None, "collections": 900}
    assert put.features == {"namespace": "dedicated", "modalities": ("text", "video")}
    assert put.failure_modes is not None
    assert {name: one.mode for name, one in put.failure_modes.items()} == {"data": "closed", "search": "allowance"}
    assert (put.concurrency, put.objects_per_batch, put.credits_mode) == (400, 200_000, "hard")
    assert isinstance(grant, GrantPut)
    assert (grant.grant_id, grant.credits_micro, grant.priority) == ("welcome", 500_000_000, 10)
    assert isinstance(boost, BoostPut)
    assert (boost.credits_micro, boost.concurrency, boost.quotas) == (1_000_000_000, 800, {"documents": None})
    assert isinstance(exemption, ExemptionPut)
    assert (exemption.api_key_id, exemption.limit_name) == ("key_acme_1", "search_per_minute")
    assert isinstance(budget, BudgetPut)
    assert (budget.label, budget.credits_micro) == (BudgetLabel(name="pipeline", value="nightly"), 10_000_000_000)
    assert isinstance(capacity, CapacityReserve)
    assert (capacity.category, capacity.credits_micro) == ("search", 20_000_000_000)
    assert isinstance(labs, OrganizationPut)
    assert labs.pool == Pool(cap_micro=50_000_000_000, reserved_micro=5_500_000)
    assert len({command.command_id for command in commands}) == len(commands)


@pytest.mark.parametrize(
    ("old", "new", "field", "detail"),
    [
        ('reserved = "5.5"', "reserved = 60_000", "organizations[0].pool", "must not pass"),
        ("cap = 50_000", "cap_micro = 5", "organizations[0].pool.cap_micro", "in credits here: cap"),
        ("concurrency = 400", 'concurrency = "unlimited"', "organizations[1].concurrency", "valid integer"),
        ("compute = 20 }", "compute = 70 }", "organizations[1].shares", "upload must not be below compute"),
        ("collections = 900", "collection = 900", "organizations[1].quotas.collection", "'collections'"),
        ('mode = "allowance", ', 'mode = "open", ', "organizations[1].failure_modes.search", "goes with the mode"),
        ("credits = 500", "credits = 0.5", "organizations[1].grants[0].credits", 'write "0.1"'),
        ('id = "welcome"', 'grant_id = "welcome"', "organizations[1].grants[0].grant_id", "is written as id here"),
        ("priority = 10", 'issued_by = "me"', "organizations[1].grants[0].issued_by", "is not said here"),
        ("2026-02-01T", "2025-02-01T", "organizations[1].grants[0]", "must lie after effective_at"),
        ('"search_per_minute"', '"searches"', "organizations[1].exemptions[0].limit", "'requests_per_second'"),
        ('limit = "search', 'limits = "search', "organizations[1].exemptions[0].limit", "required"),
        ('period = "day"', 'period = "week"', "organizations[1].budgets[0].period", "'day' or 'month'"),
        ("capacity = { search", "capacity = { searches", "organizations[1].capacity", "'search'"),
        ("search = 20_000", "search = -1", "organizations[1].capacity.search", "between 0"),
    ],
)
def test_what_is_wrong_in_what_an_organization_has_is_named(old: str, new: str, field: str, detail: str) -> None:
    assert EVERYTHING.count(old) == 1
    with pytest.raises(FileError) as refusal:
        load_accounts(EVERYTHING.replace(old, new))
    assert refusal.value.field is not None
    assert refusal.value.field.startswith(field)
    assert detail in refusal.value.detail
    assert refusal.value.line is not None
