"""The Deepgram emulator, judged by the official client."""

from collections.abc import AsyncIterator

import httpx
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.types import ListenV1Response

from tests.providers.calling import WAV
from tests.providers.deepgram_emulator import KEY, DeepgramEmulator

# The client imports from a part of websockets that is on its way out, when it is first used.
pytestmark = pytest.mark.filterwarnings(r"ignore:websockets\.:DeprecationWarning")


@pytest.fixture
async def client(deepgram: DeepgramEmulator) -> AsyncIterator[AsyncDeepgramClient]:
    origin = deepgram.origin
    environment = DeepgramClientEnvironment(base=origin, production=origin, agent=origin, agent_rest=origin)
    async with httpx.AsyncClient() as connections:
        yield AsyncDeepgramClient(api_key=KEY, environment=environment, httpx_client=connections)


async def test_the_official_client_reads_the_emulator(client: AsyncDeepgramClient, deepgram: DeepgramEmulator):
    answer = await client.listen.v1.media.transcribe_file(
        request=WAV, model="nova-3", language="multi", language_hint=["en", "es"], smart_format=True, utterances=True,
        diarize_model="latest", multichannel=True, keyterm=["voxgate", "gRPC"], utt_split=0.8, redact="pci",
        mip_opt_out=True,
    )  # fmt: skip
    assert isinstance(answer, ListenV1Response)
    ListenV1Response.model_validate_json(answer.model_dump_json(), strict=False)
    assert (answer.metadata.duration, answer.metadata.channels) == (7.25, 2)
    first, second = answer.results.channels
    assert first.alternatives
    assert first.alternatives[0].transcript == deepgram.texts[0]
    assert first.alternatives[0].languages == ["en", "es"]
    assert first.alternatives[0].words
    assert [word.speaker for word in first.alternatives[0].words] == [1] * 6 + [0] * 3
    assert first.alternatives[0].paragraphs
    assert second.alternatives
    assert answer.results.utterances
    assert [(item.channel, item.speaker) for item in answer.results.utterances] == [(0, 1), (0, 0), (1, 1), (1, 0)]
    [record] = deepgram.records
    assert record.complete
    assert record.values("keyterm") == ["voxgate", "gRPC"]


async def test_it_sends_no_more_than_was_asked_for(client: AsyncDeepgramClient, deepgram: DeepgramEmulator):
    answer = await client.listen.v1.media.transcribe_file(request=WAV, detect_language=True)
    assert isinstance(answer, ListenV1Response)
    [channel] = answer.results.channels
    assert channel.detected_language == "en"
    assert channel.alternatives
    assert channel.alternatives[0].transcript == "hello from the emulator dear friend how are you"
    assert channel.alternatives[0].paragraphs is None
    assert answer.results.utterances is None
    assert channel.alternatives[0].words
    assert {word.speaker for word in channel.alternatives[0].words} == {None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "nova-9"}, "No such model/language/tier combination"),
        ({"language": "tlh"}, "No such model/language/tier combination"),
        ({"model": "nova-2", "keyterm": "voxgate"}, "nova-3"),
        ({"model": "nova-3", "keywords": "voxgate:2"}, "not supported"),
        ({"model": "nova-2", "language": "en", "language_hint": "en"}, "language_hint"),
        ({"encoding": "linear16"}, "sample_rate"),
        ({"utt_split": -1}, "utt_split"),
        ({"diarize": True, "diarize_model": "v1"}, "diarize_model"),
        ({"language": "de", "detect_language": True}, "language"),
        ({"request_options": {"additional_query_parameters": {"beam_size": "5"}}}, "unknown query parameter beam_size"),
        ({"request_options": {"additional_query_parameters": {"diarize": "yes"}}}, "diarize"),
        ({"request": b"no audio at all"}, "corrupt or unsupported data"),
        ({"request": b""}, "corrupt or unsupported data"),
    ],
)
@pytest.mark.parametrize("shape", ["legacy", "modern"])
async def test_the_official_client_understands_its_refusals(
    client: AsyncDeepgramClient, deepgram: DeepgramEmulator, options: dict, said: str, shape
):
    deepgram.shape = shape
    with pytest.raises(ApiError) as caught:
        await client.listen.v1.media.transcribe_file(**{"request": WAV, **options})
    assert caught.value.status_code == 400
    assert said in caught.value.body["err_msg" if shape == "legacy" else "message"]


async def test_a_wrong_key(client: AsyncDeepgramClient, deepgram: DeepgramEmulator):
    deepgram.key = "another"
    with pytest.raises(ApiError) as caught:
        await client.listen.v1.media.transcribe_file(request=WAV)
    assert (caught.value.status_code, caught.value.body["err_code"]) == (401, "INVALID_AUTH")
