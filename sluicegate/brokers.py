"""How every process of Sluicegate reaches Kafka: addresses and credentials, from the environment, in one place."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

BOOTSTRAP_SERVERS_DEFAULT = "127.0.0.1:9092"


@dataclass(frozen=True, slots=True)
class Brokers:
    """Addresses and, where the broker asks for it, SCRAM-SHA-512 credentials (RFC 5802).

    ``options()`` gives the keyword arguments that every aiokafka client shares.
    """

    bootstrap_servers: str = BOOTSTRAP_SERVERS_DEFAULT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    certificate_authority: Path | None = None
    """A PEM file: TLS is used and the broker's certificate is held against it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads SLUICEGATE_BOOTSTRAP_SERVERS, SLUICEGATE_KAFKA_USERNAME, SLUICEGATE_KAFKA_PASSWORD (or _PASSWORD_FILE)
        and SLUICEGATE_KAFKA_CA_FILE.

        Raises ValueError where a user name has no password.
        """
        values = os.environ if environment is None else environment
        username = values.get("SLUICEGATE_KAFKA_USERNAME") or None
        password = values.get("SLUICEGATE_KAFKA_PASSWORD") or None
        if password is None and (path := values.get("SLUICEGATE_KAFKA_PASSWORD_FILE")):
            password = Path(path).read_text("utf-8").strip()
        if username is not None and password is None:
            raise ValueError(
                "SLUICEGATE_KAFKA_USERNAME is set without a password: set SLUICEGATE_KAFKA_PASSWORD or "
                "SLUICEGATE_KAFKA_PASSWORD_FILE"
            )
        authority = values.get("SLUICEGATE_KAFKA_CA_FILE")
        return cls(
            bootstrap_servers=values.get("SLUICEGATE_BOOTSTRAP_SERVERS", BOOTSTRAP_SERVERS_DEFAULT),
            username=username,
            password=password,
            certificate_authority=Path(authority) if authority else None,
        )

    @property
    def security_protocol(self) -> str:
        """Kafka's name for the way to talk: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        transport = "SSL" if self.certificate_authority else "PLAINTEXT"
        return f"SASL_{transport}" if self.username else transport

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for ``certificate_authority``; None without one."""
        if self.certificate_authority is None:
            return None
        return ssl.create_default_context(cafile=str(self.certificate_authority))

    def options(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's producer, consumer and admin client."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.username:
            options |= {
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        if (context := self.ssl_context()) is not None:
            options["ssl_context"] = context
        return options
