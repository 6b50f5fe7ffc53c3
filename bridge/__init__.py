"""The library of pep-bridge: from a stamp's privileged endpoint to a bundle that proves itself."""

__version__ = "0.1.0"
