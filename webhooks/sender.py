"""One attempt to deliver: resolve, check the address, sign, post to that very address, read the status."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, NamedTuple

import httpx
from standardwebhooks import Webhook

from sluicegate.clock import Clock, epoch_ms
from sluicegate_schemas.deliveries import Failure

from .addresses import AddressRefusedError, checked
from .bodies import body_of
from .endpoints import Endpoint
from .schedule import retry_after_s

log = logging.getLogger(__name__)

ADDRESSES_MAX: Final = 4
"""Addresses of one host that are tried in one attempt, where connecting to the one before failed."""
USER_AGENT: Final = "Sluicegate-Webhooks"

Resolve = Callable[[str, int], Sequence[str]]
"""(host, port) → its addresses as text; blocks. Raises OSError (socket.gaierror) or UnicodeError."""


class Outcome(NamedTuple):
    """How an attempt ended; ``failure`` is None where it was delivered."""

    failure: Failure | None
    status: int | None = None
    retry_after_s: float = 0.0


def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Sender:
    """Sends to one endpoint. It has a client and a resolver thread of its own, so that an endpoint whose name server or
    host hangs keeps nobody else waiting.

    An answer's body is not read, redirects are not followed, and the environment's proxies are not used: the address
    that is connected to is the one that was checked.
    """

    def __init__(self, endpoint: Endpoint, *, resolve: Resolve = resolve, clock: Clock = epoch_ms) -> None:
        self._endpoint = endpoint
        self._webhooks = [Webhook(secret) for secret in endpoint.secrets]
        self._resolve = resolve
        self._clock = clock
        self._resolver = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"resolve-{endpoint.name}")
        self._client = httpx.AsyncClient(
            verify=endpoint.tls,
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # the whole attempt has one  # noqa: S113
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def attempt(self, webhook_id: str, alert_json: str) -> Outcome:
        """Tries once, for at most the endpoint's ``timeout_s``."""
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                return await self._try(webhook_id, body_of(alert_json, self._endpoint.form))
        except TimeoutError:
            return Outcome("timeout")
        except AddressRefusedError as error:
            log.warning("endpoint %s: not called, its host's address %s", self._endpoint.name, error)
            return Outcome("address_refused")
        except httpx.TransportError as error:
            return Outcome(_failure(error))
        except (OSError, UnicodeError):
            return Outcome("unknown_host")

    async def _try(self, webhook_id: str, body: str) -> Outcome:
        addresses = await self._addresses()
        for left, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await self._post(address, webhook_id, body)
            except httpx.ConnectError:
                if left == 0:
                    raise
        raise socket.gaierror("no address")

    async def _addresses(self) -> list[str]:
        url = self._endpoint.url
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().run_in_executor(self._resolver, self._resolve, host, port)
        return checked(found, self._endpoint.allow_networks)[:ADDRESSES_MAX]

    async def _post(self, address: str, webhook_id: str, body: str) -> Outcome:
        url = self._endpoint.url
        async with self._client.stream(
            "POST",
            url.copy_with(host=address),
            content=body.encode(),
            headers={"Host": url.netloc.decode("ascii"), **self._headers(webhook_id, body)},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},  # whose certificate it must be
        ) as answer:
            return self._outcome(answer)

    def _headers(self, webhook_id: str, body: str) -> dict[str, str]:
        now_s = self._clock() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now_s),
        }
        if self._webhooks:
            at = datetime.fromtimestamp(now_s, UTC)
            headers["webhook-signature"] = " ".join(one.sign(webhook_id, at, body) for one in self._webhooks)
        return headers

    def _outcome(self, answer: httpx.Response) -> Outcome:
        status = answer.status_code
        if answer.is_success:
            return Outcome(None, status)
        failure: Failure = "gone" if status == 410 else "redirect" if answer.is_redirect else "status"
        return Outcome(failure, status, retry_after_s(answer.headers.get("retry-after"), self._clock()))


def _failure(error: httpx.TransportError) -> Failure:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "certificate"
        cause = cause.__cause__ or cause.__context__
    return "protocol" if isinstance(error, httpx.ProtocolError) else "unreachable"
