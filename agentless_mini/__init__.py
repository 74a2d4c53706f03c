"""Repairs real repositories from an issue text, with models that you host yourself."""

__version__ = "0.1.0"
