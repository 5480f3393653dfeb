"""Logs, and metrics in `telemetry.metrics` (slow to import). A leaf: every room may use it, it uses none."""

from voxgate_server.telemetry.log import configure_logging, get_logger

__all__ = ["configure_logging", "get_logger"]
