"""Rooms of the voxgate server; app.py puts them together."""

__all__ = ["__version__"]

__version__ = "0.1.0"
