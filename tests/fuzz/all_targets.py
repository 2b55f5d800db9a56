"""Every target, in the order in which a run goes through them."""

from typing import Final

from .http_targets import REQUESTS
from .lease_targets import TARGETS as LEASES
from .targets import RECORDS

TARGETS: Final = (*RECORDS, *LEASES, *REQUESTS)
