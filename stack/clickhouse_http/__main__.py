"""``python -m stack.clickhouse_http --data DIR --port N``: the engine's process, until SIGTERM."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from stack.clickhouse_http.app import ClickHouseHttp
from stack.clickhouse_http.engine import Engine
from stack.clickhouse_http.failures import EngineError
from stack.clickhouse_http.password import USER, read_or_make_password
from stack.ports import LOOPBACK

GRACE_S = 10


def main(
    data: Annotated[Path, typer.Option(help="the folder of the tables and of the password")],
    port: Annotated[int, typer.Option(help="the loopback port", min=1, max=65535)],
) -> None:
    """Serve ClickHouse's HTTP protocol on loopback."""
    os.environ["TZ"] = "UTC"  # before the engine reads it: times without a zone mean UTC
    data.mkdir(parents=True, exist_ok=True)
    password = read_or_make_password(data)
    try:
        engine = Engine(data / "tables")  # before the port listens: an answer to /ping means that statements run
    except EngineError as error:
        sys.exit(error.body)
    face = ClickHouseHttp(engine, USER, password)
    server = uvicorn.Server(
        uvicorn.Config(
            face.application(),
            host=LOOPBACK,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=256 * 1024,  # bound parameters travel in the address
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.run()
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
