"""The version, and the oldest Python that it runs on, apart since setup.py reads them from here."""

__version__ = "0.1.0"
OLDEST_PYTHON = (3, 9)
