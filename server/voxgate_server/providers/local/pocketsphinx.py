"""The adapter of the embedded recogniser, `local/pocketsphinx`."""

from pathlib import Path
from typing import Any

from voxgate.transcription.v1.config_pb2 import Include, ResponseFormat, TranscriptionConfig, TranscriptionTask
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.local.provider import LocalProvider, missing_packages, processors

__all__ = ["PocketsphinxProvider"]

_PACKAGES = ("pocketsphinx", "av")


class PocketsphinxProvider(LocalProvider):
    """Recognises English speech with the model inside the pocketsphinx package.

    Args:
        model: Only `pocketsphinx`.
        workers: How many recordings are recognised at a time; None means one per processor, at most 4.
        max_waiting: How many calls may wait for a worker; more are refused as Overloaded.
        max_audio_seconds: The longest recording that is taken, in seconds.
        temporary_directory: Where recordings are kept while they are read; None means TMPDIR or, without it, /var/tmp.

    Raises:
        ValueError: The packages of the extra `local` are not installed, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        model: str = "pocketsphinx",
        workers: int | None = None,
        max_waiting: int = 64,
        max_audio_seconds: float = 4 * 3600,
        temporary_directory: Path | None = None,
    ) -> None:
        if missing := missing_packages(*_PACKAGES):
            raise ValueError(f"The embedded recogniser needs {' and '.join(missing)}: pip install 'voxgate[local]'")
        if model != "pocketsphinx":
            raise ValueError(f"local knows the model pocketsphinx, not {model[:255]!r}")
        super().__init__(
            name="local",
            model=model,
            engine="pocketsphinx_engine",
            settings={},
            capabilities=ModelCapabilities(
                languages=["en"], options=["language", "languages", "timestamp_granularities"], live=True
            ),
            workers=min(processors(), 4) if workers is None else workers,
            max_waiting=max_waiting,
            max_audio_seconds=max_audio_seconds,
            temporary_directory=temporary_directory,
        )

    def options(self, attempt: Attempt) -> dict[str, Any]:
        """Nothing can be set; what every client sends and what changes nothing here is reported.

        Raises:
            UnsupportedParameter: An option asks for what it cannot do.
        """
        _check_options(attempt.config)
        attempt.dropped_params += _unusable(attempt.config)
        return {}


def _check_options(config: TranscriptionConfig) -> None:
    if config.HasField("language") and not _is_english(config.language):
        raise _unsupported("language", f"language {config.language[:64]!r}: it knows English only")
    if config.languages and not any(_is_english(language) for language in config.languages):
        raise _unsupported("languages", "any of the languages asked for: it knows English only")
    if config.task == TranscriptionTask.TRANSCRIPTION_TASK_TRANSLATE:
        raise _unsupported("task", "translation")
    if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
        raise _unsupported("response_format", "diarized_json: it does not tell speakers apart")
    if config.known_speakers:
        raise _unsupported("known_speaker_names", "known speakers: it does not tell speakers apart")
    if Include.INCLUDE_LOGPROBS in config.include:
        raise _unsupported("include", "logprobs: it has no tokens")


def _is_english(language: str) -> bool:
    return language.replace("_", "-").split("-")[0].lower() in {"en", "eng", "english"}


def _unsupported(param: str, what: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"local/pocketsphinx cannot do {what}.", param=param, metadata={"parameter": param, "provider": "local"}
    )


def _unusable(config: TranscriptionConfig) -> list[str]:
    """REST names of options that every client sends and that change nothing here."""
    unusable = [name for name in ("prompt", "temperature", "chunking_strategy") if config.HasField(name)]
    unusable += [name for name in ("keywords", "languages") if getattr(config, name)]
    return unusable + sorted(config.extra_params.fields)
