"""Servers that speak OpenAI's transcription API with differences: groq, fireworks_ai, ovhcloud, mistral, vLLM.

Each is as strict as the real one and refuses in its own shape. `url` is what goes into `api_base`.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from tests.providers import stream_rules
from tests.providers.emulator import EVENT_STREAM, Emulator
from tests.providers.openai_rules import DURATION, EXTENSIONS, is_translation, segments_of, words_of
from tests.providers.record import BodyReader, Form, Record, Refused

__all__ = [
    "EMULATORS", "DialectEmulator", "FireworksEmulator", "GroqEmulator", "MistralEmulator", "OvhcloudEmulator",
    "VllmEmulator",
]  # fmt: skip

_GROQ_LANGUAGES = (  # noqa: SIM905
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi "
    "ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd "
    "gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jv su yue"
).split()
_FLAGS = {"true", "false"}


class DialectEmulator(Emulator):
    """What these servers have in common."""

    provider: str
    """By LiteLLM's name."""
    prefix = "/v1"
    models: Collection[str] = ()
    translating: Collection[str] = ()
    """Models that translate."""
    formats: Collection[str] = ("json", "text", "verbose_json")
    default_format = "json"
    extensions: Collection[str] = EXTENSIONS
    fields: Collection[str] = ()
    """Names of the fields it knows, `[]` where its lists have them."""
    lists: Collection[str] = ("timestamp_granularities[]",)
    """Those that may come more than once."""
    granularities_field = "timestamp_granularities[]"
    ignores_unknown_fields = False

    def __init__(self, *, key: str | None = "key-of-the-emulator", text: str = "Hello from the emulator.") -> None:
        self.key = key
        self.text = text
        super().__init__()

    @property
    def url(self) -> str:
        return f"{self.origin}{self.prefix}"

    def refused(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
        """An answer that is not 200, in the server's own shape."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        error: dict[str, Any] = {"message": message, "type": kind}
        error |= {"code": code} if code else {}
        error |= {"param": param} if param else {}
        return Refused(status, json.dumps({"error": error}).encode())

    def reader(self, record: Record) -> BodyReader:
        return Form(record, self.refused(400, "the body is not multipart/form-data"))

    def too_large(self, size: int) -> Refused:
        return self.refused(413, "Request Entity Too Large", code="request_too_large")

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {"x-request-id": f"req-{len(self.records)}"}

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        self.check_key(record)
        path = record.path.partition("?")[0]
        if record.method != "POST" or path not in self.paths():
            raise self.refused(404, f"Unknown request URL: {record.method} {path}", code="unknown_url")
        if not record.complete:
            raise self.refused(400, "the body is not multipart/form-data")
        self._check_names(record)
        if record.filename is None or not record.file_size:
            raise self.refused(400, "file is required", param="file")
        if record.filename.rpartition(".")[2] not in self.extensions:
            raise self.refused(400, "file must be one of the following types", param="file")
        model = record.field("model") or ""
        if model not in self.models:
            raise self.unknown_model(model)
        if is_translation(record) and model not in self.translating:
            raise self.refused(400, f"model '{model}' does not translate", param="model")
        wanted = record.field("response_format") or self.default_format
        if wanted not in self.formats:
            raise self.refused(400, f"response_format must be one of {sorted(self.formats)}", param="response_format")
        temperature = record.field("temperature")
        if temperature is not None and not 0 <= float(temperature) <= 1:
            raise self.refused(400, "temperature must be between 0 and 1", param="temperature")
        self.check_options(record, wanted)
        if self.check_flag(record, "stream"):
            return EVENT_STREAM, self.events(record, wanted)
        if wanted == "text":
            return "text/plain; charset=utf-8", f"{self.text}\n".encode()
        return "application/json", json.dumps(self.answer(record, wanted)).encode()

    def paths(self) -> Collection[str]:
        return [f"{self.prefix}/audio/{task}" for task in ("transcriptions", "translations")]

    def check_key(self, record: Record) -> None:
        if self.key is not None and record.headers.get("authorization") != f"Bearer {self.key}":
            raise self.refused(401, "Invalid API Key", code="invalid_api_key")

    def unknown_model(self, model: str) -> Refused:
        return self.refused(
            404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
        )

    def check_options(self, record: Record, wanted: str) -> None:
        """Raises Refused."""
        self.check_granularities(record, wanted, record.values(self.granularities_field))

    def check_granularities(self, record: Record, wanted: str, levels: list[str]) -> None:
        if levels and (wanted != "verbose_json" or not set(levels) <= {"word", "segment"}):
            raise self.refused(400, "timestamp_granularities need verbose_json", param="timestamp_granularities")

    def levels(self, record: Record) -> list[str]:
        return record.values(self.granularities_field) or ["segment"]

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        """The body of a success that is JSON."""
        if wanted == "json":
            return {"text": self.text}
        levels = self.levels(record)
        return {
            "task": "translate" if is_translation(record) else "transcribe",
            "language": record.field("language") or "en",
            "duration": DURATION,
            "text": self.text,
            **({"segments": segments_of(self.text)} if "segment" in levels else {}),
            **({"words": words_of(self.text)} if "word" in levels else {}),
        }

    def events(self, record: Record, wanted: str) -> list[bytes]:
        """The frames of a streamed success. Raises Refused."""
        raise self.refused(400, "stream is not supported", param="stream")

    def _check_names(self, record: Record) -> None:
        for name, value in record.fields:
            known = name in self.fields
            if not known and not self.ignores_unknown_fields:
                raise self.unknown_field(name)
            if known and name not in self.lists and len(record.values(name)) > 1:
                raise self.refused(400, f"'{name}' was given twice", param=name)
            if known and not value:
                raise self.refused(400, f"'{name}' is empty", param=name)

    def unknown_field(self, name: str) -> Refused:
        return self.refused(400, f"unknown param `{name}`", param=name)

    def check_flag(self, record: Record, name: str) -> bool:
        """Whether a field says true. Raises Refused when it says neither that nor false."""
        value = record.field(name)
        if value not in {None, *_FLAGS}:
            raise self.refused(400, f"{name} is neither true nor false", param=name)
        return value == "true"


class GroqEmulator(DialectEmulator):
    provider = "groq"
    prefix = "/openai/v1"
    models = ("whisper-large-v3", "whisper-large-v3-turbo")
    translating = ("whisper-large-v3",)
    fields = ("model", "url", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]")
    max_body = 25 * 1024 * 1024

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {
            **super().answer_headers(record),
            "x-ratelimit-limit-requests": "2000",
            "x-ratelimit-remaining-requests": "1999",
            "x-ratelimit-reset-requests": "43.2s",
        }

    def check_options(self, record: Record, wanted: str) -> None:
        super().check_options(record, wanted)
        language = record.field("language")
        if language is not None and language not in _GROQ_LANGUAGES:
            raise self.refused(400, f"language must be one of {_GROQ_LANGUAGES}", param="language")

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        body = super().answer(record, wanted)
        return {**body, **({"language": "English"} if "language" in body else {}), "x_groq": {"id": "req_1"}}


class FireworksEmulator(DialectEmulator):
    """One of the two hosts. Fields it does not know are ignored, as the real one ignores them.

    Args:
        host: `prod` or `turbo`; each has its own model.
        more: See DialectEmulator.
    """

    provider = "fireworks_ai"
    fields = (
        "model", "vad_model", "alignment_model", "diarization_model", "skip_vad", "language", "prompt", "temperature",
        "response_format", "timestamp_granularities", "preprocessing", "max_clip_len", "diarize", "min_speakers",
        "max_speakers",
    )  # fmt: skip
    lists = ()
    formats = ("json", "text", "srt", "verbose_json", "vtt")
    ignores_unknown_fields = True

    def __init__(self, host: str = "prod", **more: Any) -> None:
        self.models = self.translating = ("whisper-v3",) if host == "prod" else ("whisper-v3-turbo",)
        super().__init__(**more)

    def refused(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
        body = {"error": {"object": "error", "type": "invalid_request_error", "message": message}}
        return Refused(status, json.dumps(body).encode())

    def levels(self, record: Record) -> list[str]:
        return (record.field("timestamp_granularities") or "segment").split(",")

    def check_options(self, record: Record, wanted: str) -> None:
        given = record.field("timestamp_granularities")
        self.check_granularities(record, wanted, given.split(",") if given else [])
        if self.check_flag(record, "diarize") and (wanted != "verbose_json" or "word" not in self.levels(record)):
            raise self.refused(400, "diarize needs verbose_json and word timestamps")
        for name, values in (
            ("vad_model", {"silero", "whisperx-pyannet"}),
            ("alignment_model", {"tdnn_ffn", "mms_fa", "gentle"}),
            ("diarization_model", {"pyannote"}),
            ("preprocessing", {"none", "dynamic", "soft_dynamic", "bass_dynamic"}),
        ):
            if record.field(name) not in {None, *values}:
                raise self.refused(400, f"{name} must be one of {sorted(values)}")

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        body = super().answer(record, wanted)
        speaker = {"speaker_id": "0"} if record.field("diarize") == "true" else {}
        for word in body.get("words", ()):
            word |= {"language": "en", "probability": 0.75, "hallucination_score": 0.0, **speaker}
        for segment in body.get("segments", ()):
            segment |= {"audio_start": segment["start"], "retry_count": 0, "no_speech": False, **speaker}
        return body


class OvhcloudEmulator(DialectEmulator):
    """Without a key it takes two requests, as the real one does in a minute, of at most 10 MB."""

    provider = "ovhcloud"
    models = ("whisper-large-v3", "whisper-large-v3-turbo")
    default_format = "verbose_json"
    fields = (
        "model", "chunking_strategy", "diarize", "language", "prompt", "response_format", "stream", "temperature",
        "timestamp_granularities[]",
    )  # fmt: skip
    extensions = ("mp3", "mp4", "aac", "m4a", "wav", "flac", "ogg", "opus", "webm", "mpeg", "mpga")
    _anonymous = 0

    def refused(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
        return Refused(status, json.dumps({"message": message, "request_id": "1"}).encode())

    def check_key(self, record: Record) -> None:
        if "authorization" in record.headers:
            super().check_key(record)
            return
        self._anonymous += 1
        if self._anonymous > 2:
            raise self.refused(429, "Rate limit exceeded")
        if record.file_size > 10_000_000:
            raise self.refused(413, "Too large without authentication")

    def check_options(self, record: Record, wanted: str) -> None:
        super().check_options(record, wanted)
        if self.check_flag(record, "diarize") and wanted != "verbose_json":
            raise self.refused(400, "diarize needs verbose_json")
        if record.field("chunking_strategy") not in {None, "auto", "server_vad"}:
            raise self.refused(400, "chunking_strategy is neither auto nor server_vad")
        if self.check_flag(record, "stream"):
            raise self.refused(400, "stream is not supported by this model")

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        body = super().answer(record, wanted)
        # Their documents have both names for it.
        body["usage"] = {"type": "duration", ("seconds" if wanted == "json" else "duration"): 4}
        if wanted == "json":
            return body
        body |= {"success": True, "segments": body.get("segments", [])}
        for number, segment in enumerate(body["segments"], 1):
            segment["id"] = number
        if record.field("diarize") == "true":
            body["diarization"] = [
                {"speaker": number % 2, "text": piece["text"], "start": piece["start"], "end": piece["end"]}
                for number, piece in enumerate(segments_of(self.text))
            ]
        return body


class MistralEmulator(DialectEmulator):
    provider = "mistral"
    models = ("voxtral-mini-latest", "voxtral-mini-2602")
    fields = (
        "model", "file_url", "file_id", "language", "temperature", "stream", "diarize", "context_bias",
        "speaker_references", "timestamp_granularities",
    )  # fmt: skip
    lists = ("context_bias", "timestamp_granularities")
    granularities_field = "timestamp_granularities"

    def paths(self) -> Collection[str]:
        return ["/v1/audio/transcriptions"]

    def refused(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
        if status == 422:
            detail = {"loc": ["body", param or ""], "msg": message, "type": "value_error"}
            return Refused(422, json.dumps({"detail": [detail]}).encode())
        body = {
            "object": "error", "message": message, "type": code or "invalid_request", "param": param, "code": "1500",
            "raw_status_code": status,
        }  # fmt: skip
        return Refused(status, json.dumps(body).encode())

    def unknown_field(self, name: str) -> Refused:
        return self.refused(422, "Extra inputs are not permitted", param=name)

    def unknown_model(self, model: str) -> Refused:
        return self.refused(400, f"Invalid model: {model}", code="invalid_model")

    def check_options(self, record: Record, wanted: str) -> None:
        levels = record.values("timestamp_granularities")
        if not set(levels) <= {"word", "segment"} or len(levels) > 1:
            raise self.refused(422, "Input should be 'segment' or 'word'", param="timestamp_granularities")
        if levels and record.field("language") is not None:
            raise self.refused(422, "timestamp_granularities and language exclude each other", param="language")
        if len(record.values("context_bias")) > 100:
            raise self.refused(422, "List should have at most 100 items", param="context_bias")
        if self.check_flag(record, "diarize") and levels != ["segment"]:
            raise self.refused(422, "diarize needs segments", param="diarize")

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        levels = record.values("timestamp_granularities")
        speaker = {"speaker_id": "speaker_1"} if record.field("diarize") == "true" else {}
        pieces = words_of(self.text) if levels == ["word"] else segments_of(self.text) if levels else []
        segments = [
            {
                "type": "transcription_segment", "text": piece.get("word") or piece["text"], "start": piece["start"],
                "end": piece["end"], "score": 0.5, **speaker,
            }
            for piece in pieces
        ]  # fmt: skip
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_audio_seconds": 4}
        return {
            "model": record.field("model"), "text": self.text, "language": record.field("language"),
            "segments": segments, "usage": usage,
        }  # fmt: skip

    def events(self, record: Record, wanted: str) -> list[bytes]:
        return stream_rules.mistral(self.answer(record, wanted))


class VllmEmulator(DialectEmulator):
    """A server of vLLM's: numbers where others have words, words where others have numbers."""

    provider = "hosted_vllm"
    models = translating = ("openai/whisper-large-v3",)
    fields = (
        "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]", "hotwords",
        "to_language", "seed", "top_p", "top_k", "min_p", "repetition_penalty", "max_completion_tokens", "stream",
        "stream_include_usage",
    )  # fmt: skip
    ignores_unknown_fields = True

    def refused(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
        kind = {401: "Unauthorized", 404: "NotFoundError"}.get(status, "BadRequestError")
        body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
        return Refused(status, json.dumps(body).encode())

    def answer(self, record: Record, wanted: str) -> dict[str, Any]:
        body = super().answer(record, wanted)
        if wanted == "json":
            return {**body, "usage": {"type": "duration", "seconds": 4}}
        return {**body, "duration": str(DURATION)}

    def events(self, record: Record, wanted: str) -> list[bytes]:
        if wanted == "verbose_json":
            raise self.refused(400, "verbose_json format doesn't support streaming case")
        with_usage = self.check_flag(record, "stream_include_usage")
        return stream_rules.vllm(self.text, record.field("model") or "", with_usage=with_usage)


EMULATORS: dict[str, tuple[type[DialectEmulator], str]] = {
    "groq": (GroqEmulator, "whisper-large-v3"),
    "fireworks_ai": (FireworksEmulator, "whisper-v3"),
    "ovhcloud": (OvhcloudEmulator, "whisper-large-v3"),
    "mistral": (MistralEmulator, "voxtral-mini-latest"),
    "hosted_vllm": (VllmEmulator, "openai/whisper-large-v3"),
}
"""By provider: who stands for it, and a model it has."""
