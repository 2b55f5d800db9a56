"""The file of endpoints: what it may say, and that no error and no log repeats a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate_schemas.files import FileError
from tests.webhook_receiver import OLD_SECRET, SECRET, alert
from webhooks.__main__ import main
from webhooks.endpoints import Endpoint, load_endpoints

PAGER = """
[[endpoints]]
name = "pager"
url = "https://pager.example/hooks/T0PSECRET"
secrets = [{ variable = "PAGER_SECRET" }]
"""
ENVIRONMENT = {"PAGER_SECRET": SECRET, "OLD": OLD_SECRET, "CHAT_URL": "https://chat.example/services/T0PSECRET"}


def loaded(folder: Path, text: str) -> tuple[Endpoint, ...]:
    path = folder / "webhooks.toml"
    path.write_text(text, "utf-8")
    return load_endpoints(path, ENVIRONMENT)


def test_a_file_gives_endpoints_with_their_secrets_read_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "old-secret").write_text(f"{OLD_SECRET}\n", "utf-8")
    pager, chat = loaded(
        tmp_path,
        PAGER.replace('"PAGER_SECRET" }', '"PAGER_SECRET" }, { file = "old-secret" }')
        + """
        organizations = ["org_heron"]
        severities = ["critical"]
        [[endpoints]]
        name = "chat"
        format = "slack"
        url_from = { variable = "CHAT_URL" }
        allow_networks = ["10.1.0.0/16", "fd00:1::/64"]
        """,
    )
    assert pager.secrets == (SECRET, OLD_SECRET)
    assert (pager.organizations, pager.severities, pager.rules) == ({"org_heron"}, {"critical"}, None)
    assert (chat.form, chat.url.host, len(chat.allow_networks)) == ("slack", "chat.example", 2)


def test_nothing_that_is_shown_of_an_endpoint_holds_its_secret_or_its_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [pager] = loaded(tmp_path, PAGER)
    assert SECRET not in repr(pager)
    assert "T0PSECRET" not in repr(pager)
    monkeypatch.setenv("SLUICEGATE_WEBHOOKS_FILE", str(tmp_path / "webhooks.toml"))
    monkeypatch.setenv("PAGER_SECRET", SECRET)
    assert main(["check"]) == 0
    shown = capsys.readouterr().out
    assert shown == "pager: standard, 1 secrets, all alerts\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("https://", "http://"), "url: must be https; allow_http"),
        (("https://", "ftp://"), "url: must be https://host"),
        (("https://", "https://user:pw@"), "must have no user"),
        (("pager.example", ""), "url: must be https://host"),
        (('url = "https://pager.example/hooks/T0PSECRET"', ""), "needs either url or url_from"),
        (("PAGER_SECRET", "NOT_SET"), r"endpoint pager: secrets\[0\]: is empty, or its variable is not set"),
        (("PAGER_SECRET", "CHAT_URL"), "must be whsec_ and base64"),
        (('variable = "PAGER_SECRET"', 'file = "nowhere"'), "cannot be read"),
        (('[{ variable = "PAGER_SECRET" }]', "[]"), "needs secrets to sign with"),
        (('[{ variable = "PAGER_SECRET" }]', f'["{SECRET}"]'), "secrets"),
        (('name = "pager"', 'name = "Pager!"'), "line 3, endpoints.0.name"),
        (("secrets =", "timeout_s = 3600\nsecrets ="), "timeout_s"),
        (("secrets =", "retry_delays_s = [0]\nsecrets ="), "retry_delays_s"),
        (("secrets =", 'allow_networks = ["10.0.0.1/8"]\nsecrets ='), "must be networks"),
        (("secrets =", 'certificate_authority = "nowhere.pem"\nsecrets ='), "no PEM file"),
        (("secrets =", "unknown = 1\nsecrets ="), "unknown"),
        (("[[endpoints]]", "[[endpoints"), "is not valid TOML"),
        (("secrets =", "at = 2026-01-01\nsecrets ="), "at"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_repeated(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(FileError, match=message) as found:
        loaded(tmp_path, PAGER.replace(*change))
    assert SECRET not in str(found.value)
    assert "T0PSECRET" not in str(found.value)


@pytest.mark.parametrize("size", [23, 65])
def test_a_secret_that_is_too_short_or_too_long_is_refused(tmp_path: Path, size: int) -> None:
    from base64 import b64encode

    (tmp_path / "secret").write_text("whsec_" + b64encode(b"x" * size).decode(), "utf-8")
    with pytest.raises(FileError, match=f"24 to 64 bytes, not {size}"):
        loaded(tmp_path, PAGER.replace('variable = "PAGER_SECRET"', 'file = "secret"'))


def test_names_are_unique_and_endpoints_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="the same name"):
        loaded(tmp_path, PAGER + PAGER)
    with pytest.raises(FileError, match="100"):
        loaded(tmp_path, "".join(PAGER.replace('"pager"', f'"pager_{number}"') for number in range(101)))
    with pytest.raises(FileError, match="larger than"):
        loaded(tmp_path, PAGER + "#" * 1024 * 1024)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ("", True),
        ('organizations = ["org_heron"]', True),
        ('organizations = ["org_root"]', True),
        ('organizations = ["org_wren"]', False),
        ('rules = ["credits_80"]', True),
        ('rules = ["credits_95"]', False),
        ('severities = ["warning", "critical"]', True),
        ('severities = ["critical"]', False),
        ('organizations = ["org_heron"]\nseverities = ["critical"]', False),
    ],
)
def test_an_endpoint_gets_what_passes_all_its_filters(tmp_path: Path, filters: str, wanted: bool) -> None:
    [pager] = loaded(tmp_path, PAGER + filters)
    assert pager.wants(alert(account_id="org_root")) == wanted
    assert pager.wants(alert(account_id="org_root", state="cleared")) == wanted
