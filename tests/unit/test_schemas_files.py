"""The operator's files become catalogues and commands, and what is wrong in them is named with its line."""

import hashlib
from pathlib import Path

import pytest

from sluicegate_schemas.accounts import KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.files import FILE_BYTES_MAX, FileError, load_accounts, load_catalogue
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.toml_lines import line_of

DEFAULT = (Path(__file__).parents[2] / "catalogue" / "default.toml").read_text(encoding="utf-8")
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


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(DEFAULT)


@pytest.mark.parametrize(
    ("tier", "credits_per_month", "second", "burst", "minute"),
    [("free", 1_000, 10, 20, 60), ("pro", 100_000, 100, 200, 600), ("team", 1_000_000, 300, 600, 3_000)],
)
def test_the_default_plans_are_those_of_the_requirements(
    catalogue: Catalogue, tier: str, credits_per_month: int, second: int, burst: int, minute: int
) -> None:
    plan = catalogue.plans[tier]  # type: ignore[index]  # the literals above are tiers
    assert plan.credits_micro_per_month == credits_per_month * 1_000_000
    assert plan.rates == RateLimits(requests_per_second=second, burst=burst, requests_per_minute=minute)


def test_the_enterprise_plan_is_custom(catalogue: Catalogue) -> None:
    plan = catalogue.plans["enterprise"]
    assert plan.credits_micro_per_month is None
    assert plan.rates is None


def test_the_default_rate_card_is_that_of_the_requirements(catalogue: Catalogue) -> None:
    priced = {
        name: (entry.category, entry.breakdown, entry.price.model_dump(exclude_none=True))
        for name, entry in catalogue.operations.items()
        if entry.price.kind != "free" and name != "inference.embedding"
    }
    search = {"kind": "per_unit", "quantity": "requests", "per": 1}
    assert priced == {
        "documents.create": (
            "data",
            "documents",
            {"kind": "per_unit", "quantity": "documents", "per": 1, "credits_micro": 1_000_000},
        ),
        "inference.llm": (
            "compute",
            "inference",
            {
                "kind": "per_started",
                "quantity": "tokens",
                "per": 1000,
                "credits_micro": 10_000_000,
                "credits_micro_min": 10_000_000,
                "credits_micro_max": 100_000_000,
            },
        ),
        "search.knn": ("search", "search", {**search, "credits_micro": 100_000}),
        "search.hybrid": ("search", "search", {**search, "credits_micro": 200_000}),
        "search.web": ("search", "search", {**search, "credits_micro": 10_000_000}),
        "cluster.execute": (
            "compute",
            "compute",
            {
                "kind": "steps",
                "quantity": "dataset_size",
                "steps": (
                    {"up_to": 1_000, "credits_micro": 50_000_000},
                    {"up_to": 10_000, "credits_micro": 100_000_000},
                    {"up_to": 100_000, "credits_micro": 250_000_000},
                ),
                "credits_micro_above": 500_000_000,
            },
        ),
        "storage": (
            None,
            "storage",
            {"kind": "held_month", "quantity": "bytes", "per": 10**9, "credits_micro": 100_000_000},
        ),
        "upload.file": (
            "upload",
            "upload",
            {"kind": "per_unit", "quantity": "bytes", "per": 10**6, "credits_micro": 1_000_000},
        ),
        "video.process": (
            "compute",
            "compute",
            {"kind": "per_unit", "quantity": "milliseconds", "per": 60_000, "credits_micro": 10_000_000},
        ),
    }


def test_embedding_models_cost_from_1_to_5_credits_and_an_unknown_one_costs_1(catalogue: Catalogue) -> None:
    entry = catalogue.operations["inference.embedding"]
    assert (entry.category, entry.breakdown, entry.price.kind) == ("compute", "inference", "per_model")
    assert entry.price.kind == "per_model"
    assert sorted(entry.price.models.values()) == [1_000_000 * n for n in range(1, 6)]
    assert entry.price.credits_micro_default == 1_000_000


def test_metadata_and_data_operations_are_free_and_know_their_category(catalogue: Catalogue) -> None:
    verbs = ["create", "get", "list", "update", "delete"]
    nouns = ["namespaces", "collections", "retrievers", "taxonomies", "clusters", "buckets", "api_keys"]
    expected = {f"{noun}.{verb}": "metadata" for noun in nouns for verb in verbs}
    expected |= {f"{noun}.{verb}": "data" for noun in ["objects", "documents"] for verb in verbs}
    expected |= {"batch.submit": "compute", "retriever.execute": "search", "taxonomy.execute": "search"}
    del expected["documents.create"]
    free = {name: entry.category for name, entry in catalogue.operations.items() if entry.price.kind == "free"}
    assert free == expected


@pytest.mark.parametrize(
    ("old", "new", "field", "detail"),
    [
        ('credits = "0.1"', "credits = 0.1", 'operations."search.knn".price.credits', 'write "0.1", in quotes'),
        ('credits = "0.1"', 'credits = "0.1234567"', 'operations."search.knn".price.credits', "six places"),
        ('credits = "0.1"', "credits = -1", 'operations."search.knn".price.credits', "between 0 and"),
        ('credits = "0.1"', "credits = true", 'operations."search.knn".price.credits', "number of credits"),
        ('credits = "0.1"', "credits = nan", 'operations."search.knn".price.credits', "must not be"),
        ('credits = "0.1"', "credits_micro = 5", 'operations."search.knn".price.credits_micro', "in credits here"),
        ("per = 60_000", "per = 0", 'operations."video.process".price.per', "greater than or equal to 1"),
        ("{ up_to = 10_000,", "{ up_to = 10,", 'operations."cluster.execute".price.steps', "rise by up_to"),
        ("credits = 250 }", "credits = 0.5 }", 'operations."cluster.execute".price.steps[2].credits', "in quotes"),
        ('"text-base" = 2', '"text-base" = -2', 'operations."inference.embedding".price.models.text-base', "between"),
        ('category = "upload"\n', "", 'operations."upload.file"', "needs a category"),
        ("\nversion = 1", "\nversion = true", "version", "valid integer"),
        ("[plans.team]", "[plans.teem]", "plans.teem", "'free', 'pro', 'team' or 'enterprise'"),
        ("effective_at = 2020-01-01T00:00:00Z", "effective_at = 2020-01-01", "effective_at", "without a zone"),
        ("burst = 200,", "bursts = 200,", "plans.pro.rates.burst", "required"),
        ('[plans.enterprise]\ncredits_per_month = "custom"', "[plans.enterprise]",
         "plans.enterprise.credits_per_month", "required"),
        ('"objects.create"', '"documents.create"', "free_operations.data", "given elsewhere"),
        ("\nmetadata = [", "\nmeta = [", "free_operations.meta", "must be a category"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_catalogue_is_named_with_its_line(old: str, new: str, field: str, detail: str) -> None:
    assert DEFAULT.count(old) == 1
    broken = DEFAULT.replace(old, new)
    with pytest.raises(FileError) as refusal:
        load_catalogue(broken)
    assert refusal.value.field == field
    assert detail in refusal.value.detail
    assert refusal.value.line is not None
    near = "\n".join(broken.splitlines()[refusal.value.line - 1 :][:6])
    assert new.strip().split(" = ")[0].split("\n")[0] in near or field.split(".")[-1] in near


def test_a_file_that_is_no_toml_is_named_with_its_line() -> None:
    with pytest.raises(FileError, match=r"^line 2: is not valid TOML") as refusal:
        load_catalogue("version = 1\neffective_at =\n")
    assert refusal.value.line == 2


@pytest.mark.parametrize("text", ["x = " + "[" * 5000 + "]" * 5000, "#" * (FILE_BYTES_MAX + 1)])
def test_a_file_that_is_too_deep_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(FileError):
        load_catalogue(text)


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


def test_a_value_is_found_on_its_line_in_nested_tables_and_arrays() -> None:
    text = '[a]\n"b.c" = 1\n[[d]]\n[[d]]\nx = 1\n[[d.e]]\n[[d.e]]\ny.z = 1\n'
    assert line_of(text, ("a", "b.c")) == 2
    assert line_of(text, ("d", 1, "x")) == 5
    assert line_of(text, ("d", 1, "e", 1, "y", "z")) == 8
    assert line_of(text, ("d", 1, "e", 0, "missing")) == 6
    assert line_of(text, ("nowhere",)) is None
