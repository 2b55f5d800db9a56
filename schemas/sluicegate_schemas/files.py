"""The operator's files: a catalogue, or accounts with all that they have, as TOML with money in credits."""

from .accounts_file import load_accounts
from .catalogue_file import load_catalogue, read_catalogue
from .toml_file import FILE_BYTES_MAX, FileError

__all__ = ["FILE_BYTES_MAX", "FileError", "load_accounts", "load_catalogue", "read_catalogue"]
