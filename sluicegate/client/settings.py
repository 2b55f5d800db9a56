"""What a caller may choose of the client kit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The defaults are the contract's (requirements, section 6).

    ``tries`` counts the first one. After try n a call waits what ``Retry-After`` says and up to ``backoff_base_s``
    more, or without that header a random time up to ``backoff_base_s`` × 2ⁿ, at most ``backoff_max_s``. A wait that
    would pass ``patience_s`` in all is not begun: the last response is the answer then. What may have been carried out
    is only tried again where that does no harm: for idempotent methods (RFC 9110, section 9.2.2), and for requests with
    an ``Idempotency-Key``.

    ``breaker_failures`` failures in a row (no response, or a 5xx) open the circuit for ``breaker_open_s``; then one
    call is let through to try.

    ``paces``: calls wait for tokens as the responses' headers tell of them, rather than run into 429s.
    ``reserve_percent`` of a bucket is left to others who call with the same key.
    """

    tries: int = 5
    backoff_base_s: float = 1.0
    backoff_max_s: float = 60.0
    patience_s: float = 120.0
    breaker_failures: int = 5
    breaker_open_s: float = 60.0
    paces: bool = True
    reserve_percent: int = 5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("tries", 1, 100),
            ("backoff_base_s", 0.001, 3_600),
            ("backoff_max_s", 0.001, 86_400),
            ("patience_s", 0, 86_400),
            ("breaker_failures", 1, 1_000_000),
            ("breaker_open_s", 0.001, 86_400),
            ("reserve_percent", 0, 90),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, but must lie from {low} to {high}")
