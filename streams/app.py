"""The metering worker: ``faust -A streams.app worker --loglevel info``. Settings: ``streams/settings.py``."""

from .domain.partition import Partition
from .settings import Settings
from .worker import build_worker


def _machine(partition: int) -> Partition:
    return Partition(partition, _settings.partitions)


_settings = Settings.from_environment()
app = build_worker(_settings, _machine)
