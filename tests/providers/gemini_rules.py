"""What Gemini accepts and what it answers, as far as it is known."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.emulator import sse
from tests.providers.record import Record, Refused

MAGIC = {
    "audio/wav": b"RIFF", "audio/flac": b"fLaC", "audio/ogg": b"OggS", "audio/mp3": b"", "audio/aac": b"\xff",
    "audio/aiff": b"FORM",
}  # fmt: skip
"""Types AI Studio takes, and how such files begin."""
VERTEX_MAGIC = {**MAGIC, "audio/mp4": b"", "audio/webm": b"\x1aE\xdf\xa3"}

_REQUEST = {"contents", "systemInstruction", "safetySettings", "generationConfig", "labels", "cachedContent"}
_GENERATION = {
    "temperature", "topP", "topK", "seed", "maxOutputTokens", "stopSequences", "responseMimeType", "responseSchema",
    "thinkingConfig", "audioTranscriptionConfig", "candidateCount",
}  # fmt: skip
_TRANSCRIPTION = {
    "languageCodes", "customVocabulary", "wordTimestamp", "diarization", "mode", "sourceText", "adaptationPhrases",
    "languageHints", "languageAuto",
}  # fmt: skip
_FILE_NAME = re.compile(r"files/[a-z0-9]([a-z0-9\-]{0,38}[a-z0-9])?")


def error_body(status: int, code: str, message: str, details: Sequence[Mapping[str, Any]] = ()) -> bytes:
    error = {"code": status, "message": message, "status": code, **({"details": list(details)} if details else {})}
    return json.dumps({"error": error}, indent=2).encode()


class GoogleRefused(Refused):
    """An answer that is not 200, in Google's shape."""

    def __init__(self, status: int, code: str, message: str, details: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(status, error_body(status, code, message, details))


def bad(message: str) -> GoogleRefused:
    return GoogleRefused(400, "INVALID_ARGUMENT", message)


def check_key(record: Record, key: str) -> None:
    given = record.headers.get("x-goog-api-key")
    if given is None:
        raise GoogleRefused(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity).",
        )
    if given != key:
        raise GoogleRefused(
            400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
            [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
              "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}],
        )  # fmt: skip


def check_json(record: Record) -> None:
    if record.headers.get("content-type") != "application/json":
        raise bad("Invalid JSON payload received: the content type is no JSON.")


def camel(value: Any) -> Any:
    """Keys in camel case, as proto JSON takes both spellings."""
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda match: match[1].upper(), key): camel(item) for key, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def known(value: Any, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad(f"Invalid value at '{where}'")
    for name in value:
        if name not in names:
            raise GoogleRefused(
                400, "INVALID_ARGUMENT",
                f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.",
                [{"@type": "type.googleapis.com/google.rpc.BadRequest",
                  "fieldViolations": [{"field": where, "description": f'Unknown name "{name}"'}]}],
            )  # fmt: skip
    return value


def check_request(request: Any, model: str, *, vertex: bool) -> tuple[str, bytes | str]:
    """Media type of the recording, and the recording itself or the address of its file."""
    dedicated = check_model(model)
    known(request, _REQUEST, "request")
    generation = known(
        request.get("generationConfig", {}),
        _GENERATION | ({"audioTimestamp"} if vertex else set()),
        "generation_config",
    )
    if dedicated and set(generation) - {"audioTranscriptionConfig"}:
        raise bad(f"{model} does not take these: {sorted(generation)}")
    if "audioTranscriptionConfig" in generation:
        if not dedicated:
            raise bad("Audio transcription config is not enabled for this model.")
        check_transcription(generation["audioTranscriptionConfig"])
    if not 0 <= generation.get("temperature", 1) <= 2:
        raise bad("temperature must be in the range [0.0, 2.0]")
    if "responseSchema" in generation and generation.get("responseMimeType") != "application/json":
        raise bad("Function calling with a response schema needs response mime type: 'application/json'")
    contents = request.get("contents")
    if not isinstance(contents, list) or len(contents) != 1:
        raise bad("* GenerateContentRequest.contents: contents is not specified")
    content = known(contents[0], {"role", "parts"}, "contents[0]")
    if content.get("role") != "user":
        raise bad("Please use a valid role: user, model.")
    recordings = []
    texts = []
    for part in content["parts"]:
        known(part, {"text", "inlineData", "fileData"}, "contents[0].parts")
        if len(part) != 1:
            raise bad("contents.parts must have one initialized field.")
        if "text" in part:
            if not isinstance(part["text"], str) or not part["text"]:
                raise bad("Unable to submit request because it must have a text parameter.")
            texts.append(part["text"])
        else:
            recordings.append(part)
    if len(recordings) != 1 or bool(texts) == dedicated:
        raise bad(f"{model} takes one recording{'' if dedicated else ' and a prompt'}")
    return check_recording(recordings[0], vertex=vertex)


def check_model(model: str) -> bool:
    if not model.startswith("gemini-") or "-live" in model:
        raise GoogleRefused(
            404, "NOT_FOUND", f"models/{model} is not found for API version v1beta, or is not supported for "
            "generateContent. Call ListModels to see the list of available models and their supported methods.",
        )  # fmt: skip
    return "transcribe" in model


def check_transcription(config: Any) -> None:
    known(config, _TRANSCRIPTION, "generation_config.audio_transcription_config")
    for name, value in config.items():
        if name in {"wordTimestamp", "diarization", "languageAuto"} and not isinstance(value, bool):
            raise bad(f"Invalid value at '{name}' (TYPE_BOOL)")
    if len(config.get("customVocabulary", ())) > 1000:
        raise bad("custom_vocabulary has more than 1000 entries")
    if not all(re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", code) for code in config.get("languageCodes", ())):
        raise bad("language_codes must be BCP-47")
    if config.get("mode", "VERBATIM") not in {"VERBATIM", "SMART"}:
        raise bad("Invalid value at 'mode'")


def check_recording(part: dict[str, Any], *, vertex: bool) -> tuple[str, bytes | str]:
    types = VERTEX_MAGIC if vertex else MAGIC
    if "fileData" in part:
        file = known(part["fileData"], {"fileUri", "mimeType"}, "file_data")
        if vertex:
            raise bad("Invalid file uri: this place has no Files API")
        if file["mimeType"] not in types:
            raise bad(f"Unsupported MIME type: {file['mimeType']}")
        return file["mimeType"], file["fileUri"]
    inline = known(part["inlineData"], {"mimeType", "data"}, "inline_data")
    if inline["mimeType"] not in types:
        raise bad(f"Unsupported MIME type: {inline['mimeType']}")
    data = decoded(inline["data"])
    if not data.startswith(types[inline["mimeType"]]):
        raise bad("Request contains an invalid argument.")
    return inline["mimeType"], data


def decoded(text: Any) -> bytes:
    """Base64 of either alphabet, with padding."""
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (AttributeError, binascii.Error) as error:
        raise bad("Invalid value at 'inline_data.data' (TYPE_BYTES), Base64 decoding failed") from error
    if not data:
        raise bad("Unable to process input: the audio is empty")
    return data


def check_start(record: Record) -> tuple[str, str, int]:
    """Name, media type and size of the file that will come."""
    headers = record.headers
    if headers.get("x-goog-upload-protocol") != "resumable" or headers.get("x-goog-upload-command") != "start":
        raise bad("Upload protocol and command are missing.")
    body = camel(json.loads(record.body))
    file = known(body, {"file"}, "request")["file"]
    known(file, {"name", "displayName", "mimeType", "sizeBytes"}, "file")
    length, media_type = (
        headers.get("x-goog-upload-header-content-length"),
        headers.get("x-goog-upload-header-content-type"),
    )
    if length is None or not length.isdecimal() or int(length) != int(file.get("sizeBytes", length)):
        raise bad("X-Goog-Upload-Header-Content-Length is missing or wrong.")
    if media_type not in MAGIC or media_type != file.get("mimeType", media_type):
        raise bad("X-Goog-Upload-Header-Content-Type is missing or wrong.")
    if int(length) > 2 << 30:
        raise bad("The file size exceeds the maximum of 2147483648 bytes.")
    if (name := file.get("name", "")) and not _FILE_NAME.fullmatch(name):
        raise bad("file.name is not a resource name")
    return name, media_type, int(length)


def check_upload(record: Record, media_type: str, size: int) -> None:
    headers = record.headers
    if "x-goog-api-key" in headers or "authorization" in headers:
        raise bad("The address is the credential; a key has no place here.")
    if headers.get("x-goog-upload-offset") != "0" or headers.get("x-goog-upload-command") != "upload, finalize":
        raise bad("Upload offset and command are missing.")
    if headers.get("x-goog-upload-header-content-type", media_type) != media_type:
        raise bad("X-Goog-Upload-Header-Content-Type changed.")
    if record.head.framing != "length" or not record.complete or record.file_size != size:
        raise bad(f"{size} bytes were announced and {record.file_size} came.")


def answer(request: dict[str, Any], model: str, text: str) -> dict[str, Any]:
    """The body of a success. Nothing is heard where `text` is empty."""
    generation = request.get("generationConfig", {})
    if "transcribe" in model:
        parts = dedicated_parts(generation.get("audioTranscriptionConfig", {}), text)
    else:
        schema = generation.get("responseSchema")
        heard = json.dumps(structured(schema, text)) if schema else text or "[no speech]"
        half = len(heard) // 2
        parts = [{"text": "I am listening.", "thought": True}, {"text": heard[:half]}, {"text": heard[half:]}]
    return {
        "candidates": [
            {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0, "avgLogprobs": -0.0125}
        ],
        "usageMetadata": {
            "promptTokenCount": 124, "candidatesTokenCount": 9, "totalTokenCount": 140, "thoughtsTokenCount": 7,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 104},
            ],
        },
        "modelVersion": model, "responseId": "mNAdaZ-3Gp-wxN8P",
    }  # fmt: skip


def chunks(whole: dict[str, Any]) -> list[bytes]:
    """The same success in events: words one by one, and why it ended in the last."""
    [candidate] = whole["candidates"]
    pieces = [
        {**part, "text": word}
        for part in candidate["content"]["parts"]
        for word in ([part["text"]] if part.get("thought") else re.findall(r"\s*\S+\s*", part["text"]))
    ]
    about = {name: whole[name] for name in ("modelVersion", "responseId")}
    begun = {"promptTokenCount": whole["usageMetadata"]["promptTokenCount"], "totalTokenCount": 1}
    found = [
        {"candidates": [{"content": {"parts": [piece], "role": "model"}, "index": 0}], "usageMetadata": begun, **about}
        for piece in pieces
    ]
    end = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}
    return sse(*found, {"candidates": [end], "usageMetadata": whole["usageMetadata"], **about})


def structured(schema: dict[str, Any], text: str) -> dict[str, Any]:
    asked = schema["properties"]["segments"]["items"]["properties"]
    segments = []
    for number, (start, end, piece) in enumerate(pieces(text)):
        full = {"speaker": "AB"[number % 2], "start": f"00:{start:06.3f}", "end": f"00:{end:06.3f}", "text": piece}
        segments.append({name: full[name] for name in asked})
    return {"language": "en", "segments": segments}


def dedicated_parts(config: dict[str, Any], text: str) -> list[dict[str, Any]]:
    timed, diarized = config.get("wordTimestamp", False), config.get("diarization", False)
    if not timed and not diarized:
        return [{"text": text}] if text else []
    parts = []
    turns = pieces(text) if diarized else [(0.0, 3.25, text)] if text else []
    for number, (start, end, piece) in enumerate(turns):
        said: dict[str, Any] = {"text": piece, "languageCode": config.get("languageCodes", ["en-US"])[0]}
        if diarized:
            said["speakerLabel"] = f"spk_{number % 2 + 1}"
        if timed:
            words = piece.split()
            step = (end - start) / len(words)
            said["words"] = [
                {
                    "word": word,
                    "startOffset": offset(start + index * step),
                    "endOffset": offset(start + (index + 1) * step),
                }
                for index, word in enumerate(words)
            ]
        parts.append({"text": piece, "audioTranscription": said})
    return parts


def offset(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def pieces(text: str) -> list[tuple[float, float, str]]:
    """Two stretches of speech, 3.25 s in all."""
    half = text.find(" ") + 1
    if not text:
        return []
    return [(0.0, 1.5, text[:half].strip()), (1.5, 3.25, text[half:])] if half else [(0.0, 3.25, text)]
