"""What a command says on standard error, in lines that a script can rely on."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt

__all__ = ["CallFailed", "complain", "printable"]


class CallFailed(Exception):
    """A call that failed, wherever it was answered.

    Args:
        message: For people.
        request_id: The call's id; None when it never reached a gateway.
        attempts: Which providers were tried, in order.
    """

    def __init__(
        self, message: str, *, request_id: str | None = None, attempts: "Iterable[ProviderAttempt]" = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.attempts = tuple(attempts)


def complain(subject: str, error: "CallFailed | OSError | str") -> None:
    """Writes `voxgate: SUBJECT: message`, and such a line for every provider that was tried.

    Args:
        subject: The file, or the server.
        error: What went wrong with it.
    """
    lines = []
    if isinstance(error, CallFailed):
        lines.append(error.message + (f" (request {error.request_id})" if error.request_id else ""))
        lines += [f"  tried {_attempt(attempt)}" for attempt in error.attempts]
    elif isinstance(error, OSError):
        lines.append(error.strerror or str(error))
    else:
        lines.append(error)
    for line in lines:
        click.echo(f"voxgate: {printable(subject)}: {printable(line)}", err=True)


def printable(text: str, keep: str = "") -> str:
    """Text in which no character steers a terminal or breaks a line.

    Args:
        text: The text; names of files and words of providers are anybody's.
        keep: Characters to leave as they are though they are not printable.
    """
    return "".join(character if character.isprintable() or character in keep else "\ufffd" for character in text)


def _attempt(attempt: "ProviderAttempt") -> str:
    from voxgate.transcription.v1.extra_fields_pb2 import AttemptOutcome

    outcome = AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_").lower().replace("_", " ")
    facts = [outcome, f"after {attempt.latency.ToTimedelta().total_seconds():.1f} s"]
    if attempt.HasField("http_status"):
        facts.append(f"HTTP {attempt.http_status}")
    if attempt.error_code:
        facts.append(attempt.error_code)
    what = f": {attempt.error_message}" if attempt.error_message else ""
    return f"{attempt.provider}/{attempt.model} ({', '.join(facts)}){what}"
