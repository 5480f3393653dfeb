"""No option is ever lost: every provider takes it, refuses it by its name, or leaves it out and says so."""

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edges.rest.http_client import END, Response, field, file_start, post
from tests.everyone.sides import SIDES, House, house
from tests.providers.emulator import Emulator
from tests.recordings import recording
from tests.running import AUTH

SPEECH = recording("vm-goodbye.wav").data
VOICE = f"data:audio/wav;base64,{base64.b64encode(recording('demo-thanks.wav').data[:4000]).decode()}"
OPTIONS: dict[str, dict[str, object]] = {
    "language": {"language": "de"},
    "languages": {"languages[]": ["en", "de"]},
    "prompt": {"prompt": "Voxgate and Asterisk."},
    "keywords": {"keywords[]": ["voxgate"]},
    "temperature": {"temperature": "0.25"},
    "timestamp_granularities": {"timestamp_granularities[]": ["word"], "response_format": "verbose_json"},
    "include": {"include[]": ["logprobs"]},
    "chunking_strategy": {"chunking_strategy": '{"type": "server_vad", "threshold": 0.25}'},
    "known_speaker_names": {"known_speaker_names[]": ["agent"], "known_speaker_references[]": [VOICE]},
    "surely_unknown": {"surely_unknown": "1"},
}
SHOWN = {"timestamp_granularities": "words", "include": "logprobs"}
"""Options that some providers need not be told: the answer has them."""
BASELINES = {"timestamp_granularities": {"response_format": "verbose_json"}}


@pytest.fixture
async def lenient(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, drop_params=True) as found:
        yield found


async def ask(there: House, name: str, options: dict[str, object]) -> Response:
    pairs = [(key, one) for key, value in options.items() for one in (value if isinstance(value, list) else [value])]
    fields = b"".join(field(key, str(value)) for key, value in [("model", name), *pairs])
    body = fields + file_start() + SPEECH + b"\r\n" + END
    return await post(there.gateway.rest_port, "/v1/audio/transcriptions", body, AUTH)


def said(emulator: Emulator) -> str:
    """What the last request said besides the recording, and besides what only asks how far it is."""
    record = next(record for record in reversed(emulator.records) if record.method == "POST")
    body = b"" if bytes(record.body) == SPEECH else re.sub(rb"/upload/\d+", b"", bytes(record.body))
    return json.dumps([record.path, record.fields, re.sub(rb"[A-Za-z0-9+/=_-]{300,}", b"", body).decode("latin-1")])


def heeded(option: str, response: Response, emulator: Emulator, plain: str) -> bool:
    """Whether an option has made a difference."""
    return bool(response.json().get(SHOWN[option])) if option in SHOWN else said(emulator) != plain


@pytest.mark.parametrize("name", SIDES)
async def test_strict(everyone: House, name: str):
    """Refused by name, or its provider is told."""
    emulator = everyone.emulators[name]
    for option, fields in OPTIONS.items():
        assert (await ask(everyone, name, BASELINES.get(option, {}))).status == 200
        plain, calls = said(emulator), len(emulator.records)
        response = await ask(everyone, name, fields)
        if response.status == 400:
            assert response.error["param"] == option, f"{name} refuses {option} by another name: {response.error}"
            assert option in response.error["message"]
            assert len(emulator.records) == calls, f"{name} was asked with {option}"
        else:
            assert response.status == 200, f"{name} with {option}: {response.body!r}"
            assert "x-voxgate-dropped-params" not in response.headers
            assert heeded(option, response, emulator, plain), f"{name} lost {option}"


@pytest.mark.parametrize("name", SIDES)
async def test_lenient(lenient: House, name: str):
    """Left out and reported, or its provider is told."""
    emulator = lenient.emulators[name]
    for option, fields in OPTIONS.items():
        assert (await ask(lenient, name, BASELINES.get(option, {}))).status == 200
        plain = said(emulator)
        response = await ask(lenient, name, fields)
        if response.status == 400:
            # Times by the word cannot be made up for: without them the answer would be another thing.
            assert response.error["param"] == option == "timestamp_granularities", f"{name}: {response.error}"
            continue
        assert response.status == 200, f"{name} with {option}: {response.body!r}"
        dropped = response.headers.get("x-voxgate-dropped-params", "")
        if dropped:
            assert dropped == option
            assert said(emulator) == plain, f"{name} says it left {option} out"
        else:
            assert heeded(option, response, emulator, plain), f"{name} lost {option}"
