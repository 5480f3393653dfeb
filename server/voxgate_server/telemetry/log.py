"""Structured logs: one JSON object a line on standard error, or readable lines on a terminal.

What is logged are names, numbers and outcomes. Audio, transcripts, prompts, file names and keys are never passed to
a logger, at any level.
"""

import logging
import sys
from typing import cast

import structlog

__all__ = ["configure_logging", "get_logger"]


def configure_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Sets up logging for the process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        json: JSON lines, or readable ones. None means readable on a terminal, JSON elsewhere.
    """
    if json is None:
        json = not sys.stderr.isatty()
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.dict_tracebacks] if json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; what they say below a warning is noise here.
    logging.basicConfig(level=max(number, logging.WARNING), format="%(name)s: %(message)s")


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `room=name`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(room=name))
