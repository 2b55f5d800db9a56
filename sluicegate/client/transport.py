"""httpx transports that keep a caller within its limits: paced, patient, and silent towards a server that is down."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from .call import Call, CircuitOpenError, Kit, Reason, is_refusal, reason_of
from .settings import ClientSettings

Fallback = Callable[[httpx.Request, Reason, httpx.Response | None], httpx.Response | None]
"""Something cached, or cheaper, instead of a refusal; None: there is nothing. Gets the response that was refused, if
there was one, read."""
AsyncFallback = Callable[[httpx.Request, Reason, httpx.Response | None], Awaitable[httpx.Response | None]]


class PacedTransport(httpx.BaseTransport):
    """For ``httpx.Client(transport=PacedTransport())``. Several threads may share it."""

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        fallback: Fallback | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``transport`` carries the calls; httpx's own over HTTP if absent."""
        self._kit = Kit(settings or ClientSettings(), monotonic, wall)
        self._fallback = fallback
        self._transport = transport or httpx.HTTPTransport()
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(self._kit, request)
        while True:
            response: httpx.Response | None = None
            error: httpx.TransportError | None = None
            try:
                self._sleep_for(call.pace_s())
                response = self._transport.handle_request(request)
                wait_s = call.answered(response.status_code, response.headers)
            except CircuitOpenError as circuit:
                error, wait_s = circuit, None
            except httpx.TransportError as failure:
                error, wait_s = failure, call.failed(failure)
            except BaseException:
                call.left()
                raise
            if wait_s is not None:
                if response is not None:
                    response.close()
                self._sleep_for(wait_s)
                continue
            return self._answer(request, response, error)

    def _answer(
        self, request: httpx.Request, response: httpx.Response | None, error: httpx.TransportError | None
    ) -> httpx.Response:
        if self._fallback is not None and (response is None or is_refusal(response.status_code)):
            if response is not None:
                response.read()
            reason = reason_of(response, error)
            instead = None if reason is None else self._fallback(request, reason, response)
            if instead is not None:
                return instead
        if response is None:
            assert error is not None, "without a response there is an error"
            raise error
        return response

    def _sleep_for(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)

    def close(self) -> None:
        self._transport.close()


class AsyncPacedTransport(httpx.AsyncBaseTransport):
    """For ``httpx.AsyncClient(transport=AsyncPacedTransport())``."""

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        fallback: AsyncFallback | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``transport`` carries the calls; httpx's own over HTTP if absent."""
        self._kit = Kit(settings or ClientSettings(), monotonic, wall)
        self._fallback = fallback
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(self._kit, request)
        while True:
            response: httpx.Response | None = None
            error: httpx.TransportError | None = None
            try:
                await self._sleep_for(call.pace_s())
                response = await self._transport.handle_async_request(request)
                wait_s = call.answered(response.status_code, response.headers)
            except CircuitOpenError as circuit:
                error, wait_s = circuit, None
            except httpx.TransportError as failure:
                error, wait_s = failure, call.failed(failure)
            except BaseException:
                call.left()
                raise
            if wait_s is not None:
                if response is not None:
                    await response.aclose()
                await self._sleep_for(wait_s)
                continue
            return await self._answer(request, response, error)

    async def _answer(
        self, request: httpx.Request, response: httpx.Response | None, error: httpx.TransportError | None
    ) -> httpx.Response:
        if self._fallback is not None and (response is None or is_refusal(response.status_code)):
            if response is not None:
                await response.aread()
            reason = reason_of(response, error)
            instead = None if reason is None else await self._fallback(request, reason, response)
            if instead is not None:
                return instead
        if response is None:
            assert error is not None, "without a response there is an error"
            raise error
        return response

    async def _sleep_for(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    async def aclose(self) -> None:
        await self._transport.aclose()
