"""Settings of all tests."""

from hypothesis import settings

# Other work on the same machine must not fail a test: no example has a time limit of its own.
settings.register_profile("voxgate", deadline=None)
settings.load_profile("voxgate")
