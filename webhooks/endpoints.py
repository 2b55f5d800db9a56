"""The endpoints: a TOML file of who gets which alerts, at which URL, signed with which secrets (docs/webhooks.md).

Secrets never stand in the file: it names a file or an environment variable for each. So may it for a URL that is
itself a secret. What is wrong is a FileError that names the endpoint and the field, and repeats no value.
"""

import binascii
import json
import os
import ssl
import tomllib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Self

import httpx
from pydantic import Field, StringConstraints, ValidationError, model_validator

from sluicegate_schemas.alert_rules import Severity
from sluicegate_schemas.alerts import AuditDrift, UsageAlert
from sluicegate_schemas.bounds import LabelName, OrganizationId, Record
from sluicegate_schemas.deliveries import EndpointName
from sluicegate_schemas.files import FileError
from sluicegate_schemas.toml_lines import line_of

from .addresses import Network
from .bodies import Format, rule_of, severity_of
from .schedule import DELAYS_S

ENDPOINTS_MAX: Final = 100
SECRETS_MAX: Final = 4
FILE_BYTES_MAX: Final = 1024 * 1024
SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64
"""Of a signing secret, decoded (Standard Webhooks 1.0)."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (the form of one, not one)
_Text = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class _Source(Record):
    """Where a secret stands."""

    file: _Text | None = None
    variable: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.variable is None):
            raise ValueError("needs either file or variable")
        return self


class _FileEndpoint(Record):
    name: EndpointName
    url: _Text | None = None
    url_from: _Source | None = None
    secrets: Annotated[tuple[_Source, ...], Field(max_length=SECRETS_MAX)] = ()
    organizations: Annotated[tuple[OrganizationId, ...], Field(min_length=1, max_length=10_000)] | None = None
    rules: Annotated[tuple[LabelName, ...], Field(min_length=1, max_length=100)] | None = None
    severities: Annotated[tuple[Severity, ...], Field(min_length=1, max_length=3)] | None = None
    format: Format = "standard"
    timeout_s: Annotated[int, Field(ge=1, le=30)] = 15
    retry_delays_s: Annotated[
        tuple[Annotated[int, Field(ge=1, le=86_400)], ...], Field(min_length=1, max_length=16)
    ] = DELAYS_S
    allow_http: bool = False
    allow_networks: Annotated[tuple[_Text, ...], Field(max_length=64)] = ()
    certificate_authority: _Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("needs either url or url_from")
        if self.format == "standard" and not self.secrets:
            raise ValueError("needs secrets to sign with")
        return self


class _File(Record):
    endpoints: Annotated[tuple[_FileEndpoint, ...], Field(max_length=ENDPOINTS_MAX)]


@cache
def _context(authority: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority) if authority else httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One receiver. None of ``organizations``, ``rules``, ``severities``: all; an alert has to pass each."""

    name: str
    url: httpx.URL = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Each signs every attempt, so that a receiver may know the old one or the new one."""
    organizations: frozenset[str] | None = None
    rules: frozenset[str] | None = None
    severities: frozenset[str] | None = None
    form: Format = "standard"
    timeout_s: int = 15
    retry_delays_s: tuple[int, ...] = DELAYS_S
    allow_networks: tuple[Network, ...] = ()
    tls: ssl.SSLContext = field(default_factory=partial(_context, None), repr=False)
    """Whose certificates are believed, where the URL is not of plain HTTP."""

    def wants(self, alert: AuditDrift | UsageAlert) -> bool:
        """Whether it gets ``alert``. An alert of an account is its organizations'."""
        whose = {alert.organization_id, alert.account_id if isinstance(alert, UsageAlert) else None}
        return (
            (self.organizations is None or not self.organizations.isdisjoint(whose))
            and (self.rules is None or rule_of(alert) in self.rules)
            and (self.severities is None or severity_of(alert) in self.severities)
        )


def load_endpoints(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Endpoint, ...]:
    """The endpoints of the TOML file at ``path``; files that it names are relative to its folder.

    Raises FileError for what cannot be used, and OSError where ``path`` itself cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise FileError(f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode()
        parsed = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"is not valid TOML: {error}") from None
    try:
        entries = _File.model_validate_json(json.dumps(parsed, default=str)).endpoints
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise FileError(problem["msg"], field=where or None, line=line_of(text, problem["loc"])) from None
    if len({entry.name for entry in entries}) < len(entries):
        raise FileError("two endpoints have the same name", field="endpoints")
    values = os.environ if environment is None else environment
    return tuple(_Reader(entry, path.parent, values).endpoint() for entry in entries)


class _Reader:
    """Makes an endpoint of its entry in the file."""

    def __init__(self, entry: _FileEndpoint, folder: Path, environment: Mapping[str, str]) -> None:
        self._entry = entry
        self._folder = folder
        self._environment = environment

    def endpoint(self) -> Endpoint:
        entry = self._entry
        return Endpoint(
            name=entry.name,
            url=self._url(),
            secrets=tuple(self._secret(source, f"secrets[{at}]") for at, source in enumerate(entry.secrets)),
            organizations=_set(entry.organizations),
            rules=_set(entry.rules),
            severities=_set(entry.severities),
            form=entry.format,
            timeout_s=entry.timeout_s,
            retry_delays_s=entry.retry_delays_s,
            allow_networks=self._networks(),
            tls=self._tls(),
        )

    def _fail(self, name: str, detail: str) -> FileError:
        return FileError(detail, field=f"endpoint {self._entry.name}: {name}")

    def _read(self, source: _Source, name: str) -> str:
        if source.variable is not None:
            text = self._environment.get(source.variable, "")
        else:
            assert source.file is not None
            try:
                text = (self._folder / source.file).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise self._fail(name, f"its file cannot be read ({type(error).__name__})") from None
        if not text.strip():
            raise self._fail(name, "is empty, or its variable is not set")
        return text.strip()

    def _secret(self, source: _Source, name: str) -> str:
        secret = self._read(source, name)
        try:
            if not secret.startswith(SECRET_PREFIX):
                raise ValueError
            size = len(b64decode(secret.removeprefix(SECRET_PREFIX), validate=True))
        except (ValueError, binascii.Error):
            raise self._fail(name, f"must be {SECRET_PREFIX} and base64") from None
        if not SECRET_BYTES_MIN <= size <= SECRET_BYTES_MAX:
            raise self._fail(name, f"must hold {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not {size}")
        return secret

    def _url(self) -> httpx.URL:
        entry = self._entry
        text = self._read(entry.url_from, "url_from") if entry.url_from else entry.url
        assert text is not None
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, UnicodeError):
            raise self._fail("url", "is no URL") from None
        if url.scheme not in ("https", "http") or not url.host:
            raise self._fail("url", "must be https://host/…")
        if url.scheme == "http" and not entry.allow_http:
            raise self._fail("url", "must be https; allow_http = true sends what alerts say in the clear")
        if url.userinfo or url.fragment:
            raise self._fail("url", "must have no user and no fragment")
        return url

    def _networks(self) -> tuple[Network, ...]:
        try:
            return tuple(ip_network(text) for text in self._entry.allow_networks)
        except ValueError:
            raise self._fail("allow_networks", "must be networks, like 10.1.2.0/24 or fd00:1::/64") from None

    def _tls(self) -> ssl.SSLContext:
        authority = self._entry.certificate_authority
        try:
            return _context(self._folder / authority if authority else None)
        except (OSError, ssl.SSLError) as error:
            detail = f"is no PEM file that can be read ({type(error).__name__})"
            raise self._fail("certificate_authority", detail) from None


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
