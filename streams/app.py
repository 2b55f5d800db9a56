"""The metering worker: ``faust -A streams.app worker --loglevel info``. Settings: ``streams/settings.py``."""

from .domain.partition import Partition
from .domain.settings import DomainSettings
from .settings import Settings
from .worker import build_worker


def _machine(partition: int) -> Partition:
    return Partition(partition, _settings.partitions, _domain)


_settings = Settings.from_environment()
_domain = DomainSettings(
    lease_ttl_ms=_settings.escrow_ttl_ms,
    lease_request_ms=_settings.escrow_request_ms,
    lease_late_ms=_settings.escrow_late_ms,
)
app = build_worker(_settings, _machine)
