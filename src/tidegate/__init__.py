"""Gated recurrent units: fast to train, small to run, open to look inside."""

__version__ = "0.1.0"
