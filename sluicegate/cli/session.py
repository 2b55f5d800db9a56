"""What every command has at hand: where Kafka and ClickHouse are, the topics' names, the screen, the clock."""

import getpass
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Self

from sluicegate_schemas.bounds import NAME_PATTERN, full_match
from sluicegate_schemas.topics import PREFIX_DEFAULT

from ..brokers import Brokers
from ..errors import ConfigurationError
from ..operator.system import System
from .screen import Screen

_NAME: Final = full_match(NAME_PATTERN)
_TOPIC_PREFIX: Final = full_match(r"^[A-Za-z0-9._-]{0,200}$")


@dataclass(frozen=True, slots=True)
class Session(System):
    """One run of one command."""

    screen: Screen
    environment: Mapping[str, str]

    @classmethod
    def begin(
        cls,
        *,
        as_json: bool,
        bootstrap_servers: str | None,
        topic_prefix: str | None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """By the options and the environment. Raises ConfigurationError."""
        environment = os.environ if environment is None else environment
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what fails is raised, and said once
        try:
            brokers = Brokers.from_environment(environment)
        except (OSError, ValueError) as error:
            raise ConfigurationError(str(error)) from None
        if bootstrap_servers:
            brokers = replace(brokers, bootstrap_servers=bootstrap_servers)
        prefix = topic_prefix or environment.get("SLUICEGATE_TOPIC_PREFIX") or PREFIX_DEFAULT
        if not _TOPIC_PREFIX.match(prefix):
            raise ConfigurationError("the topic prefix may hold letters, digits and . _ - only")
        return cls(brokers, prefix, Screen(as_json=as_json), environment)

    @property
    def now(self) -> datetime:
        """This machine's clock, in UTC."""
        return datetime.now(UTC)

    def operator(self, by: str | None) -> str:
        """Who acts: ``by``, else SLUICEGATE_OPERATOR, else the login name. Raises ConfigurationError where it is no
        word that the audit trail takes."""
        name = by or self.environment.get("SLUICEGATE_OPERATOR") or _login()
        if not _NAME.match(name):
            raise ConfigurationError(
                "who acts must be one word of 1 to 64 letters, digits and ._:/@-: give --by or SLUICEGATE_OPERATOR"
            )
        return name


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return "operator"
