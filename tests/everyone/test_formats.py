"""Every provider in every format, as a REST caller gets it, against files; and as the OpenAI SDK reads it.

With `UPDATE_GOLDEN=1` in the environment the files are written anew; look at what changes before you commit it.
"""

import os
from pathlib import Path

import openai
import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose

from tests.edges.rest.http_client import form, post
from tests.everyone.sides import SIDES, House, pretty
from tests.recordings import recording
from tests.running import AUTH, KEY

GOLDEN = Path(__file__).parent / "golden"
SPEECH = recording("vm-goodbye.wav").data
FORMATS = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "verbose_json": "application/json",
    "vtt": "text/vtt; charset=utf-8",
    "diarized_json": "application/json",
}


def group(name: str, wanted: str) -> str:
    return f"{name}-speakers" if wanted == "diarized_json" else name


@pytest.mark.parametrize("name", SIDES)
async def test_golden(everyone: House, name: str):
    for wanted, media_type in FORMATS.items():
        body = form(SPEECH, model=group(name, wanted), response_format=wanted)
        response = await post(everyone.gateway.rest_port, "/v1/audio/transcriptions", body, AUTH)
        if response.status == 200:
            assert response.headers["content-type"] == media_type
            text = pretty(response.body) if media_type == "application/json" else response.body.decode()
        else:
            # Only what a model cannot do at all is refused, by name, before anybody is asked.
            assert (response.status, response.error["param"]) == (400, "response_format")
            text = pretty(response.body)
        file = GOLDEN / name / f"{wanted}.{wanted.rpartition('_')[2].replace('text', 'txt')}"
        if os.environ.get("UPDATE_GOLDEN"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert text == file.read_text(), f"{name} in {wanted}"


@pytest.mark.parametrize("name", SIDES)
async def test_the_sdk_reads_it(everyone: House, name: str):
    async with openai.AsyncOpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        create = client.audio.transcriptions.create
        file = ("speech.wav", SPEECH)
        plain = await create(model=name, file=file)
        assert type(plain) is Transcription
        assert plain.text
        assert set(plain.model_dump(exclude_none=True)) <= {"text", "usage"}
        verbose = await create(model=name, file=file, response_format="verbose_json")
        assert type(verbose) is TranscriptionVerbose
        assert verbose.segments
        assert verbose.duration
        assert verbose.usage is None or verbose.usage.type == "duration"
        try:
            diarized = await create(model=f"{name}-speakers", file=file, response_format="diarized_json")
        except openai.BadRequestError as error:
            assert error.param == "response_format"  # noqa: PT017
        else:
            assert type(diarized) is TranscriptionDiarized
            assert all(segment.speaker for segment in diarized.segments)
