"""Structured logs: one JSON object a line on standard error, or readable lines on a terminal.

What is logged are names, numbers and outcomes. Audio, transcripts, prompts, file names and keys are never passed to
a logger, at any level.
"""

import logging
import sys
from typing import cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["configure_logging", "get_logger"]


def configure_logging(level: str = "info", *, json: bool | None = None, worker: int | None = None) -> None:
    """Sets up logging for the process, also of what libraries say.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        json: JSON lines, or readable ones. None means readable on a terminal, JSON elsewhere.
        worker: Number of this process among its equals, stands in every line; None means it is the only one.
    """
    if json is None:
        json = not sys.stderr.isatty()
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if worker is None else [_adding_worker(worker)]),
    ]
    # Both ways show tracebacks without the values of local variables: these are audio, transcripts and keys.
    rendering: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
        if json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    foreign = logging.StreamHandler(sys.stderr)
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    # What libraries say below a warning is noise here, and may be about what callers sent.
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[foreign])


def _adding_worker(worker: int) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return add


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `room=name`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(room=name))
