"""Gives an attempt its audio as the provider wants it. What is right as it is costs nothing."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from voxgate.transcription.v1.audio_pb2 import AudioHeader

from voxgate_server.audio.convert import Conversion, Converter, media_type_of
from voxgate_server.audio.sniff import WAV
from voxgate_server.call import Call
from voxgate_server.errors import AudioTooLarge, DeadlineExceeded
from voxgate_server.providers.base import Attempt, Provider

__all__ = ["fit"]

T = TypeVar("T")


async def fit(attempt: Attempt, call: Call, provider: Provider, converter: Converter) -> None:
    """Replaces the audio of an attempt by a converted one where the provider does not take it as it is.

    A conversion stays with the call, for other providers with the same need. Where the provider has to know the size
    of a recording before its first byte, this waits for all of it.

    Args:
        attempt: Which; changed in place.
        call: Whose.
        provider: Whom it is for.
        converter: Does it.

    Raises:
        UnsupportedAudio: It cannot be converted.
        AudioTooLarge: It has become too large by it.
        DeadlineExceeded: The attempt's time was over before it could begin.
        VoxgateError: The upload or the conversion failed.
    """
    capabilities = provider.capabilities
    media_type = media_type_of(call.audio, call.kind)
    # A model of which it is not known what it takes gets containers as they are, and never bare samples.
    unfit = media_type is not None and media_type not in capabilities.media_types
    if unfit and (capabilities.media_types or call.kind is None):
        conversion = _conversion(attempt, call, provider, converter)
        attempt.kind = await _in_time(attempt, conversion.identify())
        attempt.spool = conversion.spool
        attempt.audio = AudioHeader(filename=f"audio.{attempt.kind.extension}", media_type=attempt.kind.media_type)
    # A conversion of what is there already comes all at once; a length is then to be had for nothing.
    if (capabilities.needs_length or call.spool.finished) and not attempt.spool.finished:
        await _in_time(attempt, attempt.spool.wait_finished())
    size, limit = attempt.spool.size, capabilities.max_audio_bytes
    if attempt.spool is not call.spool and attempt.kind is not None and limit and size > limit:
        raise AudioTooLarge(
            f"{provider.name} ({provider.model}) does not take this container, and as {attempt.kind.name} the "
            f"recording has {size} bytes or more, and it takes at most {limit}. Send it in one of "
            f"{', '.join(sorted(capabilities.media_types)) or 'the usual containers'}, or in parts.",
            param="file",
            metadata={"limit_bytes": str(limit), "provider": provider.name},
        )


def _conversion(attempt: Attempt, call: Call, provider: Provider, converter: Converter) -> Conversion:
    """The one the call has that will do, or else a new one."""
    capabilities = provider.capabilities
    wanted = frozenset(capabilities.media_types or (WAV.media_type,))
    for one in call.converted:
        done = one.kind is not None and one.kind.media_type in wanted
        if one.usable and (done or one.media_types == wanted):
            return one
    conversion = converter.begin(
        call.spool,
        call.audio,
        call.kind,
        media_types=wanted,
        deadline=call.deadline,
        who=f"{provider.name} ({provider.model})",
        seconds=lambda: call.audio_seconds,
        needs_length=capabilities.needs_length,
    )
    call.converted.append(conversion)
    return conversion


async def _in_time(attempt: Attempt, work: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(attempt.deadline - time.monotonic()):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(
            "The time for the call was over while the recording was still coming in, or being converted. Send it "
            "faster, or allow the call more time."
        ) from None
