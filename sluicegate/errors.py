"""What can go wrong for a service that uses Sluicegate, and whose move it then is.

::

    SluicegateError
    ├── ConfigurationError    a setting, a route or a file is wrong: change it (also a ValueError)
    ├── TopicsMissingError    the broker is there, the topics are not: create them, then try again
    └── PublishRefusedError   an operator's command would change what is immutable: nothing was written

A request never sees any of these: the middleware and the gate answer, count and log instead.
"""


class SluicegateError(Exception):
    """The root of all errors that this package raises on purpose."""


class ConfigurationError(SluicegateError, ValueError):
    """A setting, a route or a file is wrong; the message names it."""


class TopicsMissingError(SluicegateError):
    """The broker answers, but a topic does not exist; the message names it."""


class PublishRefusedError(SluicegateError):
    """The operator's command contradicts what is published already; nothing was written."""
