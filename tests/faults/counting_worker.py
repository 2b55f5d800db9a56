"""A worker whose partitions count: ``python -m faust -A tests.faults.counting_worker worker``."""

from streams.settings import Settings
from streams.worker import build_worker
from tests.faults.counting_machine import CountingMachine

app = build_worker(Settings.from_environment(), CountingMachine)
