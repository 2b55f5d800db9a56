"""A broker that some clients reach through a proxy alone.

A Kafka client goes where the broker's metadata sends it, so a proxy before the ordinary listener would be left at once.
This broker has a second listener, which advertises the proxy's address: who bootstraps at the proxy stays behind it.
"""

from __future__ import annotations

from pathlib import Path

from stack.kafka import Kafka
from stack.ports import LOOPBACK, free_port


class ProxiedKafka(Kafka):
    """``Kafka`` with a listener on ``proxied_port`` that tells its clients to come to ``proxy_port``."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.proxied_port = free_port()
        self.proxy_port = free_port()

    @property
    def proxy_bootstrap(self) -> str:
        """What clients behind the proxy take as ``bootstrap_servers``."""
        return f"{LOOPBACK}:{self.proxy_port}"

    def _write_settings(self, port: int) -> Path:
        path = super()._write_settings(port)
        settings = dict(line.split("=", 1) for line in path.read_text("utf-8").splitlines())
        settings["listeners"] += f",PROXIED://{LOOPBACK}:{self.proxied_port}"
        settings["advertised.listeners"] += f",PROXIED://{LOOPBACK}:{self.proxy_port}"
        settings["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
        return path
