"""What is wrong with a running system, and the remedy; it only looks."""

from .examine import Diagnosis, diagnose
from .finding import Finding
from .history import Select

__all__ = ["Diagnosis", "Finding", "Select", "diagnose"]
