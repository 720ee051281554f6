"""The version, read from the installed package; written into recipes and reports."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("medgraft")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0+unknown"
