"""What a provider cannot take goes to one that can, or is refused by the limit's name and with who could."""

import io
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edges.rest.http_client import form, post
from tests.everyone.sides import SIDES, digest
from tests.faults.calling import DOORS, Ask
from tests.recordings import recording
from tests.running import AUTH, KEY, Gateway, running

SPEECH = recording("vm-goodbye.wav").data
PATH = "/v1/audio/transcriptions"


def wav(seconds: int) -> bytes:
    """Silence of 1000 samples a second, a byte each."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(1000)
        writer.writeframes(b"\x80" * (seconds * 1000))
    return file.getvalue()


LONG = wav(1501)


@dataclass
class Place:
    """A gateway with a model that takes 1500 s and one that takes more, and a group with both."""

    gateway: Gateway
    small: Any
    large: Any


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with SIDES["azure"].make() as azure, SIDES["groq"].make() as groq:
        groq.max_body = 100 << 20  # as with an account that pays
        small = {"model": "azure/gpt-4o-transcribe", **SIDES["azure"].params(azure)}
        large = {"model": SIDES["groq"].model, **SIDES["groq"].params(groq)}
        entries = [
            {"model_name": "small", "litellm_params": small},
            {"model_name": "large", "litellm_params": large},
            {"model_name": "both", "litellm_params": {**small, "order": 1}},
            {"model_name": "both", "litellm_params": {**large, "order": 2}},
        ]
        config = {"model_list": entries, "general_settings": {"master_key": KEY}}
        async with running(tmp_path, yaml.safe_dump(config)) as gateway:
            yield Place(gateway, azure, groq)


@pytest.mark.parametrize("door", DOORS)
async def test_a_recording_that_is_too_long_goes_where_it_fits(place: Place, door: str):
    ask: Ask = DOORS[door]
    outcome = await ask(place.gateway, "both", LONG)
    assert outcome.ok, outcome
    assert outcome.attempts == ["succeeded"]
    assert outcome.model == place.large.records[-1].field("model")
    assert not place.small.records


async def test_it_is_refused_where_it_does_not(place: Place):
    response = await post(place.gateway.rest_port, PATH, form(LONG, model="small"), AUTH)
    assert (response.status, response.error["param"]) == (413, "file")
    assert "azure" in response.error["message"]
    assert "at most 1500 s" in response.error["message"]
    assert "Models that would take it: both, large" in response.error["message"]
    assert not place.small.records


async def test_one_that_grows_too_large_on_the_way_goes_on_to_the_next(place: Place):
    # Nothing announces how large it is going to be: the first provider has a part of it already.
    data = recording("demo-congrats.wav").data[:44].replace(b"data", b"junk") + bytes(27_000_000)
    outcome = await DOORS["upload"](place.gateway, "both", data)
    assert outcome.ok, outcome
    assert outcome.attempts == ["AUDIO_TOO_LARGE", "succeeded"]
    assert not any(record.complete for record in place.small.records)
    assert place.large.records[-1].file_sha256 == digest(data)


async def test_a_language_nobody_there_speaks(place: Place):
    response = await post(place.gateway.rest_port, PATH, form(SPEECH, model="large", language="zz"), AUTH)
    assert (response.status, response.error["param"]) == (400, "language")
    assert "'zz'" in response.error["message"]
    assert "groq has " in response.error["message"]
