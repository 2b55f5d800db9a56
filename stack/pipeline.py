"""The whole pipeline as processes, with one data folder: Kafka, ClickHouse, workers, sink, audit, dispatcher and
receiver of webhooks, API nodes, the usage API, callers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from clickhouse.connection import ClickHouse as ClickHouseAddress
from clickhouse.migrate import MigrationError, migrate
from sluicegate_schemas import topics
from sluicegate_schemas.accounts import KeyPut
from sluicegate_schemas.files import load_accounts
from sluicegate_schemas.outputs import ENTITLEMENT, KeyEntitlement
from stack.errors import StackError
from stack.folder import CHECKOUT
from stack.kept import TOPICS_KEPT
from stack.launcher import Stack
from stack.ports import LOOPBACK, free_port
from stack.process import ChildProcess
from stack.receiver import Received
from stack.subscriber import Subscriber, alerts_logged
from stack.topic_log import read_topic
from stack.traffic import SECRETS_VARIABLE, Secrets
from streams.settings import Settings
from streams.topics import TopicsError, ensure_topics

CATALOGUE: Final = CHECKOUT / "catalogue" / "default.toml"
ACCOUNTS: Final = CHECKOUT / "examples" / "accounts.toml"
SCENES: Final = CHECKOUT / "examples" / "scenes.toml"
PREFIX: Final = topics.PREFIX_DEFAULT
KEYS_LIMIT_S: Final = 90.0
NODE_LIMIT_S: Final = 60.0
WORKER_STOP_LIMIT_S: Final = 30.0
AUDIT_LIMIT_S: Final = 60.0
ALERTS_LIMIT_S: Final = 60.0

TENANTS: Final = (("key_osprey_1",), ("key_heron_1", "key_heron_2", "key_heron_test"), ("key_finch_1",))
"""The trace's tenants, busiest first, each with its keys (``examples/accounts.toml``)."""
OVER_RATE: Final = "key_magpie_burst"
SPENDER: Final = "key_wren_1"


def demonstration_secrets() -> dict[str, str]:
    """The secret of each key of the demonstration accounts (``examples/README.md``), by key id.

    :raises StackError: the accounts file holds another key than the demonstration's.
    """
    found: dict[str, str] = {}
    for command in (command for file in (ACCOUNTS, SCENES) for command in load_accounts(file.read_text("utf-8"))):
        if isinstance(command, KeyPut):
            secret = f"sk_{command.mode}_demo_{command.api_key_id}"
            if hashlib.sha256(secret.encode()).hexdigest() != command.key_sha256:
                raise StackError(f"the secret of {command.api_key_id} is not the demonstration's")
            found[command.api_key_id] = secret
    return found


class Pipeline:
    """All processes over ``data``; ``start`` brings them up in order, ``stop`` ends whatever runs, in reverse.

    :param say: told in a few words what is done next.
    """

    def __init__(
        self, data: Path, *, nodes: int, workers: int, say: Callable[[str], None], usage_api: bool = False
    ) -> None:
        self.data = data
        self.stack = Stack(data)
        self.node_logs = data / "nodes"
        self.secrets = demonstration_secrets()
        self.node_addresses: list[str] = []
        self.operator_credential = f"op_{secrets.token_urlsafe(24)}"
        """For the usage API of this start alone."""
        self.api_address = f"http://{LOOPBACK}:{free_port()}" if usage_api else None
        self.metrics: dict[str, str] = {}
        """Where each process answers /metrics, /readyz and /livez, as ``http://host:port``, by name."""
        self.nodes: list[ChildProcess] = []
        self.workers: list[ChildProcess] = []
        self.api: ChildProcess | None = None
        self.sink: ChildProcess | None = None
        self.audit: ChildProcess | None = None
        self.subscriber: Subscriber | None = None
        self.traffic: ChildProcess | None = None
        self.scenes: ChildProcess | None = None
        self._node_count, self._worker_count = nodes, workers
        self.say = say

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.stack.kafka.bootstrap

    def clickhouse(self) -> ClickHouseAddress:
        """Where ClickHouse is."""
        engine = self.stack.clickhouse
        return ClickHouseAddress(url=engine.url, username=engine.username, password=engine.password)

    def start(self) -> None:
        """Start everything but the callers; returns when every API node knows every key.

        :raises StackError: a part did not start; what was started still runs until ``stop``.
        """
        self.stack.start(self.say)
        self.say("Creating topics and tables")
        try:
            asyncio.run(ensure_topics(Settings(bootstrap_servers=self.bootstrap), TOPICS_KEPT))
            migrate(self.clickhouse())
        except (TopicsError, MigrationError) as error:
            raise StackError(str(error), kept="All data was kept") from error
        self._publish_accounts()
        self.say(f"Starting {_count(self._worker_count, 'worker')}, the sink, the audit and the webhook dispatcher")
        self.workers = [self._worker(number) for number in range(1, self._worker_count + 1)]
        self.sink = self._faust("sink", "clickhouse.sink")
        self.audit = self._python("audit", "clickhouse.audit")
        self.subscriber = Subscriber(self.data, self._dispatcher)
        self.subscriber.receiver.start()
        for child in (*self.workers, self.sink, self.audit, self.subscriber.dispatcher):
            child.spawn()
        self.say("Metrics: " + ", ".join(f"{name} {address}/metrics" for name, address in self.metrics.items()))
        self._wait_for_keys()
        with_api = "" if self.api_address is None else " and the usage API"
        self.say(f"Starting {_count(self._node_count, 'API node')}{with_api}")
        for number in range(1, self._node_count + 1):
            self._add_node(number)
        if self.api_address is not None:
            self.api = self._usage_api(self.api_address)
            self.api.spawn()
        for node in self.nodes:
            node.wait_until_ready()
        if self.api_address is not None:
            address = self.api_address
            wait_for(lambda: _is_ready(address), NODE_LIMIT_S, "The usage API did not get ready")

    def start_traffic(self, trace: Path, *, speed: float, for_s: float | None) -> ChildProcess:
        """Start the callers; the process ends by itself after ``for_s`` seconds."""
        secrets = Secrets(
            tuple(tuple(self.secrets[key] for key in keys) for keys in TENANTS),
            self.secrets[OVER_RATE],
            self.secrets[SPENDER],
        )
        command = [sys.executable, "-m", "stack.traffic", "--trace", str(trace), "--speed", str(speed)]
        for address in self.node_addresses:
            command += ["--node", address]
        if for_s is not None:
            command += ["--for", str(for_s)]
        self.traffic = self._callers("the callers", command, secrets.to_json())
        return self.traffic

    def start_scenes(self) -> ChildProcess:
        """Start the scenes, which show each kind of block once; the process ends by itself when they are over."""
        command = [sys.executable, "-m", "stack.scenes"]
        for address in self.node_addresses:
            command += ["--node", address]
        operator = {**self._environment(), "SLUICEGATE_OPERATOR": "demonstration"}
        self.scenes = self._callers("the scenes", command, json.dumps(self.secrets), operator)
        return self.scenes

    def _callers(
        self, name: str, command: Sequence[str], secrets: str, environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        calling = ChildProcess(
            name,
            command,
            log=self.data / "logs" / f"{name.removeprefix('the ')}.log",
            cwd=CHECKOUT,
            environment={**(environment or {}), SECRETS_VARIABLE: secrets},
        )
        calling.log.unlink(missing_ok=True)
        calling.spawn()
        return calling

    def check(self) -> None:
        """Raise ChildDiedError if a part is gone (the callers may end)."""
        self.stack.check()
        for child in (*self.workers, self.sink, self.audit, *self._subscribers(), *self.nodes, self.api):
            if child is not None:
                child.check()

    def stop(self, failure: str = "") -> None:
        """End whatever runs, callers first, brokers last."""
        parts = [self.traffic, self.scenes, self.api, *self.nodes, *self.workers, self.audit, self.sink]
        stop_all([part for part in (*parts, *self._subscribers()) if part is not None])
        self.stack.stop(failure)

    def _environment(self) -> dict[str, str]:
        address = self.clickhouse()
        return {
            "SLUICEGATE_BOOTSTRAP_SERVERS": self.bootstrap,
            "SLUICEGATE_TOPIC_PREFIX": PREFIX,
            "SLUICEGATE_CLICKHOUSE_URL": address.url,
            "SLUICEGATE_CLICKHOUSE_USER": address.username,
            "SLUICEGATE_CLICKHOUSE_PASSWORD_FILE": str(self.stack.clickhouse.password_file),
        }

    def audited(self) -> tuple[bool, str]:
        """Whether the audit finds that everything agrees, looking once more, and what it says."""
        looking = self._python("audit-once", "clickhouse.audit", "--once")
        looking.log.unlink(missing_ok=True)
        looking.spawn()
        wait_for(lambda: not looking.running, AUDIT_LIMIT_S, "The audit did not compare everything")
        return looking.exit_code == 0, " ".join(looking.log_tail(5).split())

    def alerts_received(self) -> list[Received]:
        """The alerts that the subscriber got, the oldest first."""
        return [] if self.subscriber is None else self.subscriber.received()

    def alerted(self) -> tuple[bool, str]:
        """Whether all alerts of the topic came to the subscriber, given some time, and what was found."""
        logged = asyncio.run(alerts_logged(self.bootstrap, PREFIX))

        def missing() -> set[str]:
            return logged - {alert.webhook_id for alert in self.alerts_received()}

        with contextlib.suppress(StackError):
            wait_for(lambda: not missing(), ALERTS_LIMIT_S, "Not every alert came")
        said = f"; missing: {', '.join(sorted(missing())[:5])}" if missing() else ""
        return not missing(), f"{len(logged)} fired or cleared{said}"

    def _subscribers(self) -> list[ChildProcess]:
        return [self.subscriber.dispatcher, self.subscriber.receiver] if self.subscriber else []

    def _dispatcher(self, endpoints: Path) -> ChildProcess:
        return self._python("webhooks", "webhooks", SLUICEGATE_WEBHOOKS_FILE=str(endpoints))

    def _usage_api(self, address: str) -> ChildProcess:
        operators = self.data / "operators.toml"
        digest = hashlib.sha256(self.operator_credential.encode()).hexdigest()
        operators.write_text(
            f'[[operators]]\nname = "demonstration"\nsha256 = "{digest}"\nscopes = ["read", "write"]\n', "utf-8"
        )
        return self._python(
            "api",
            "stack.usage_api",
            *("--log", str(self.node_logs / "usage-api.jsonl"), "--node", "usage-api"),
            SLUICEGATE_API_LISTEN=address.removeprefix("http://"),
            SLUICEGATE_API_OPERATORS_FILE=str(operators),
        )

    def _worker(self, number: int) -> ChildProcess:
        name = f"worker-{number}"
        return self._faust(name, "streams.app", SLUICEGATE_WORKER_NAME=name)

    def _faust(self, name: str, module: str, **environment: str) -> ChildProcess:
        options = ["-A", module, "worker", "--loglevel", "info", "--without-web"]
        return self._python(name, "faust", *options, **environment)

    def _python(self, name: str, module: str, *options: str, **environment: str) -> ChildProcess:
        listen = f"{LOOPBACK}:{free_port()}"
        self.metrics[name] = f"http://{listen}"
        return ChildProcess(
            name,
            [sys.executable, "-m", module, *options],
            log=self.data / "logs" / f"{name}.log",
            cwd=CHECKOUT,
            environment={
                **self._environment(),
                "SLUICEGATE_DATA_DIR": str(self.data / "faust" / name),
                "SLUICEGATE_HEALTH_LISTEN": listen,
                **environment,
            },
            stop_limit_s=WORKER_STOP_LIMIT_S,
        )

    def _add_node(self, number: int) -> None:
        name, port = f"node-{number}", free_port()
        address = f"http://{LOOPBACK}:{port}"
        command = [sys.executable, "-m", "stack.node", "--port", str(port), "--node", name]
        node = ChildProcess(
            name,
            [*command, "--log", str(self.node_logs / f"{name}.jsonl"), "--topic-prefix", PREFIX],
            log=self.data / "logs" / f"{name}.log",
            cwd=CHECKOUT,
            environment=self._environment(),
            ready=lambda: _is_ready(address),
            ready_limit_s=NODE_LIMIT_S,
        )
        self.nodes.append(node)
        self.node_addresses.append(address)
        node.spawn()

    def _publish_accounts(self) -> None:
        self.say("Publishing the catalogue and the demonstration accounts")
        self._operate("catalog", str(CATALOGUE), "--by", "demonstration", "--lead-seconds", "0")
        self._operate("org", str(ACCOUNTS))
        self._operate("org", str(SCENES))

    def _operate(self, what: str, file: str, *options: str) -> None:
        publishing = ChildProcess(
            "the operator's command",
            [sys.executable, "-m", "sluicegate.cli", what, "publish", file, *options],
            log=self.data / "logs" / f"operator-{what}.log",
            cwd=CHECKOUT,
            environment=self._environment(),
        )
        publishing.spawn()
        wait_for(lambda: not publishing.running, 60.0, f"{file} was not published")
        if publishing.exit_code != 0:
            raise StackError(f"{file} could not be published:\n{publishing.log_tail()}")

    def _wait_for_keys(self) -> None:
        """Until the workers have made every key known: a node that starts then knows them all when it is ready."""
        wanted = {hashlib.sha256(secret.encode()).hexdigest() for secret in self.secrets.values()}

        def known() -> bool:
            self.check()
            return wanted <= asyncio.run(_known_keys(self.bootstrap))

        wait_for(known, KEYS_LIMIT_S, "The workers did not make the keys known")


async def _known_keys(bootstrap: str) -> set[str]:
    found: set[str] = set()
    async for record in read_topic(bootstrap, PREFIX + topics.ENTITLEMENTS.name):
        if record.value is not None:
            entitlement = ENTITLEMENT.validate_json(record.value)
            if isinstance(entitlement, KeyEntitlement):
                found.add(entitlement.key_sha256)
    return found


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def stop_all(children: Sequence[ChildProcess]) -> None:
    """SIGTERM to all in turn; each gets its limit."""
    for child in children:
        child.stop()


def wait_for(condition: Callable[[], bool], limit_s: float, failure: str, *, every_s: float = 0.2) -> None:
    """Return once ``condition`` holds. Raises StackError with ``failure`` where that takes longer than ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{failure} within {limit_s:g} s", kept="All data was kept")
        time.sleep(every_s)


def last_counts(traffic: ChildProcess) -> dict[str, Any]:
    """The newest counts that callers printed; empty before the first."""
    for line in reversed(traffic.log_tail(5).splitlines()):
        if line.startswith("{") and line.endswith("}"):
            counts: dict[str, Any] = json.loads(line)
            return counts
    return {}
