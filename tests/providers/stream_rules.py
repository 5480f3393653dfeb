"""What the servers of OpenAI's dialect stream, each in its own way."""

import json
import re
from typing import Any

from tests.providers import openai_rules
from tests.providers.emulator import sse
from tests.providers.record import Record

__all__ = ["mistral", "openai", "openai_streams", "vllm"]


def openai_streams(record: Record) -> bool:
    """Whether the answer comes in events: whisper-1 ignores that it was asked for."""
    return record.field("stream") == "true" and not (record.field("model") or "").startswith("whisper")


def openai(record: Record, text: str, *, marked: bool = False) -> list[bytes]:
    """OpenAI's and Azure's, with `[DONE]` at the end or, as in the documented example, without."""
    wanted = record.field("response_format")
    body = {"text": text} if wanted == "text" else json.loads(openai_rules.answer(record, text)[1])
    diarized = wanted == "diarized_json"
    found: list[dict[str, Any]] = []
    for number, (_, _, piece) in enumerate(openai_rules.pieces_of(text) if diarized else [(0, 0, text)]):
        for index, word in enumerate(_words(piece)):
            said = f" {word}" if number and not index else word
            delta: dict[str, Any] = {"type": "transcript.text.delta", "delta": said}
            if diarized:
                delta["segment_id"] = f"seg_{number + 1:03d}"
            if "logprobs" in body:
                delta["logprobs"] = [{"token": said, "logprob": -0.125, "bytes": list(said.encode())}]
            found.append(delta)
        if diarized:
            found.append(body["segments"][number])
    done: dict[str, Any] = {"type": "transcript.text.done", "text": text}
    done |= {name: body[name] for name in ("logprobs", "languages") if name in body}
    if "input_tokens" in (usage := body.get("usage", {})):
        done["usage"] = {name: value for name, value in usage.items() if name != "type"}
    return sse(*found, done, *(["[DONE]"] if marked else []))


def mistral(body: dict[str, Any]) -> list[bytes]:
    """Mistral's, of a whole answer."""
    deltas = [{"type": "transcription.text.delta", "text": word} for word in _words(body["text"])]
    segments = [{**segment, "type": "transcription.segment"} for segment in body["segments"]]
    language = {"type": "transcription.language", "audio_language": "en"}
    return sse(language, *deltas, *segments, {"type": "transcription.done", **body}, events=True)


def vllm(text: str, model: str, *, with_usage: bool) -> list[bytes]:
    """vLLM's chunks, which are like those of a chat."""
    chunk = {"id": "trsc-1", "object": "transcription.chunk", "created": 1, "model": model}
    chunks: list[dict[str, Any]] = [{**chunk, "choices": [{"delta": {"content": word}}]} for word in _words(text)]
    chunks.append({**chunk, "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]})
    if with_usage:
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        chunks.append({**chunk, "choices": [], "usage": usage})
    return sse(*chunks, "[DONE]")


def _words(text: str) -> list[str]:
    """Parts that give the text again when they are joined."""
    return re.findall(r"\s*\S+", text)
