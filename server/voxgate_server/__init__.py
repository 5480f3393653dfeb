"""Rooms of the voxgate server; app.py puts them together."""
