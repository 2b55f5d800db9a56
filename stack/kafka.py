"""Apache Kafka on one machine: one KRaft node on loopback, its data in one folder."""

from __future__ import annotations

import asyncio
import base64
import threading
import uuid
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stack import cache
from stack.errors import ChildDiedError, StackError
from stack.java import find_java
from stack.ports import LOOPBACK, accepts, free_port
from stack.process import ChildProcess
from stack.server import Server

HEAP = "256m"
START_LIMIT_S = 90.0
STOP_LIMIT_S = 20.0
FORMAT_LIMIT_S = 60.0
METADATA_LIMIT_MS = 2_000
JAVA_OPTIONS = (
    f"-Xmx{HEAP}",
    "-XX:+UseSerialGC",  # fewest threads and fastest start on few cores
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

# A topic's own settings (partitions, compaction, LogAppendTime) are set where the topic is created.
SERVER_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node: every internal topic has one copy and few partitions.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # After kill -9 the node may register again only when its old session is over: the default would be 9 s.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A flush is one record batch, and a request may carry one for each partition.
    "message.max.bytes": "16777216",
    "replica.fetch.max.bytes": "16777216",
    "socket.request.max.bytes": "209715200",
    "log.retention.hours": "168",
    "log.segment.bytes": "134217728",
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "33554432",  # the default would be half of the heap
    "num.network.threads": "2",
    "num.io.threads": "4",
}


class Kafka(Server):
    """One broker; see ``Server``. Its folder holds logs, settings and the node's identity.

    :param cache_folder: where the jars are; default the user's cache.
    """

    def __init__(self, data: Path, *, port: int | None = None, cache_folder: Path | None = None) -> None:
        super().__init__("Kafka", data, port, option="--kafka-port")
        self.log = self.data / "kafka.log"
        self._cache_folder = cache_folder

    @property
    def bootstrap(self) -> str:
        """What clients take as ``bootstrap_servers``."""
        return f"{LOOPBACK}:{self.port}"

    def _start_on_a_port(self) -> None:
        cache.kafka_jars(self._cache_folder)
        try:
            super()._start_on_a_port()
        except ChildDiedError as error:
            text = error.log_tail
            if "ClassNotFoundException" not in text and "ClassDef" not in text and "ZipE" not in text:
                raise
            # A jar of the right size may still be damaged: check every hash, fetch what is wrong, try once more.
            cache.kafka_jars(self._cache_folder, verify=True)
            super()._start_on_a_port()

    def _child_on(self, port: int) -> ChildProcess:
        java, classpath = str(find_java()), f"{cache.kafka_jars(self._cache_folder)}/*"
        settings = self._write_settings(port)
        self._format(java, classpath, settings)
        return ChildProcess(
            "Kafka",
            [java, *JAVA_OPTIONS, "-cp", classpath, "kafka.Kafka", str(settings)],
            log=self.log,
            ready=lambda: answers_metadata(port),
            ready_limit_s=START_LIMIT_S,
            stop_limit_s=STOP_LIMIT_S,
        )

    def _write_settings(self, port: int) -> Path:
        controller_port = free_port()
        settings = SERVER_SETTINGS | {
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
            "log.dirs": str(self.data / "log"),
        }
        path = self.data / "server.properties"
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
        except OSError as error:
            raise StackError(
                f"Kafka's data folder {self.data} cannot be written: {error.strerror or error}",
                kept="Its data was kept",
                next_step="Free some space or choose another data folder, and start again",
            ) from error
        return path

    def _format(self, java: str, classpath: str, settings: Path) -> None:
        if (self.data / "log" / "meta.properties").exists():
            return
        words = ("format", "--ignore-formatted", "--cluster-id", new_cluster_id(), "--config", str(settings))
        options = (*JAVA_OPTIONS, "-XX:TieredStopAtLevel=1", "-cp", classpath)
        ChildProcess(
            "The preparation of Kafka's data folder", [java, *options, "kafka.tools.StorageTool", *words], log=self.log
        ).run_to_end(FORMAT_LIMIT_S)


def new_cluster_id() -> str:
    """A random UUID in Kafka's form: 22 characters that begin with no dash, which the tool would take for an option."""
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id


def answers_metadata(port: int) -> bool:
    """Whether a broker on the loopback port answers a metadata request and names itself in the answer."""
    if not accepts(port):
        return False
    answer: list[bool] = []
    # Callers may be inside a running event loop, so the question gets a thread and a loop of its own.
    asking = threading.Thread(target=lambda: answer.append(asyncio.run(_names_a_broker(port))))
    asking.start()
    asking.join()
    return answer == [True]


async def _names_a_broker(port: int) -> bool:
    client = AIOKafkaClient(bootstrap_servers=f"{LOOPBACK}:{port}", request_timeout_ms=METADATA_LIMIT_MS)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
