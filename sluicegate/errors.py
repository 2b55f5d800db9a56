"""What can go wrong for a service that uses Sluicegate, and whose move it then is.

::

    SluicegateError
    ├── ConfigurationError    a setting, a route or a file is wrong: change it (also a ValueError)
    │   └── InvalidFieldError     a field of an operator's command
    ├── TopicsMissingError    the broker is there, the topics are not: create them, then try again
    ├── ClickHouseError       it cannot be reached, or refuses the question: no decision waits for it
    ├── NotFoundError         an operator asked for what does not exist, or no longer
    ├── PublishRefusedError   an operator's command would change what is immutable: nothing was written
    └── RefusedError          the request must not do what its handler expected: let it through, it is answered

A request never sees any of these: the middleware and the gate answer, count and log instead.
"""


class SluicegateError(Exception):
    """The root of all errors that this package raises on purpose."""


class ConfigurationError(SluicegateError, ValueError):
    """A setting, a route or a file is wrong; the message names it."""


class InvalidFieldError(ConfigurationError):
    """A field of an operator's command is wrong; ``field`` is its path, empty where several are wrong together."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class TopicsMissingError(SluicegateError):
    """The broker answers, but a topic does not exist; the message names it."""


class ClickHouseError(SluicegateError):
    """ClickHouse cannot be reached, or refuses the question; the message says which."""


class RefusedError(SluicegateError):
    """A limit does not allow what a running request is going to do; raised by ``Usage.expect``. The middleware answers
    the request with that refusal, whose status is ``status``."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


class NotFoundError(SluicegateError):
    """What an operator asked for does not exist, or no longer; the message names it."""


class PublishRefusedError(SluicegateError):
    """The operator's command contradicts what is published already; nothing was written."""
