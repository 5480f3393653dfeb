"""The adapter of faster-whisper, `faster_whisper/…`: Whisper models that lie on this machine. Nothing is downloaded."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from voxgate.transcription.v1.config_pb2 import TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.local.provider import LocalProvider, missing_packages, processors
from voxgate_server.providers.local.settings import Settings
from voxgate_server.providers.options import accepted_options, is_translation, language_hints

__all__ = ["FasterWhisperProvider", "build", "find_model"]

_LANGUAGES = (
    "af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de", "el",
    "en", "es", "et", "eu", "fa", "fi", "fo", "fr", "gl", "gu", "ha", "haw", "he", "hi", "hr", "ht", "hu", "hy",
    "id", "is", "it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt", "lv", "mg", "mi",
    "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl", "ps", "pt", "ro", "ru",
    "sa", "sd", "si", "sk", "sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl",
    "tr", "tt", "uk", "ur", "uz", "vi", "yi", "yo", "zh", "yue",
)  # fmt: skip
_OTHER_CODES = {"jv": "jw", "nb": "no", "iw": "he", "in": "id", "fil": "tl"}
_OPTIONS = frozenset({"language", "prompt", "keywords", "temperature", "timestamp_granularities"})
_MULTILINGUAL = 51_865
"""Tokens of the smallest model that knows more than English."""
_FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.*")
_HUB = {
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Where models are published whose names do not tell."""


class FasterWhisperProvider(LocalProvider):
    """Recognises a hundred languages with a Whisper model in CTranslate2's format.

    Args:
        model: A size (`small`), or a name at Hugging Face (`Systran/faster-whisper-small`).
        directory: Where it is; None: in `root`, under its name.
        root: Directory with models; None means Hugging Face's cache.
        device: `cpu`, `cuda`, or `auto`: cuda where there is such a device.
        compute_type: CTranslate2's name of how weights are held, e.g. `int8`; `default` as they are stored.
        cpu_threads: How many processors a worker uses; 0 means its share of all.
        beam_size: How many hypotheses are followed.
        workers: How many recordings are recognised at a time; each has the model in memory.
        max_waiting: How many calls may wait for a worker; more are refused as Overloaded.
        max_audio_seconds: The longest recording that is taken, in seconds.
        drop_params: Leave options it cannot take out and report them, instead of refusing the call.
        environ: Where Hugging Face's variables are looked up.

    Raises:
        ValueError: A package, the model or a part of it is missing, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        model: str,
        directory: Path | None = None,
        root: Path | None = None,
        device: str = "auto",
        compute_type: str = "default",
        cpu_threads: int = 0,
        beam_size: int = 5,
        workers: int = 1,
        max_waiting: int = 64,
        max_audio_seconds: float = 4 * 3600,
        drop_params: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if missing_packages("faster_whisper"):
            raise ValueError("faster_whisper needs the package faster-whisper: pip install 'voxgate[faster-whisper]'")
        if device not in {"auto", "cpu", "cuda"} or cpu_threads < 0 or beam_size < 1:
            raise ValueError("device must be auto, cpu or cuda, cpu_threads at least 0, beam_size at least 1")
        directory = find_model(model, directory, root, os.environ if environ is None else environ)
        if device == "auto":
            device = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
        weights = (directory / "model.bin").stat().st_size
        english = _tokens(directory) < _MULTILINGUAL
        self._drop_params = drop_params
        super().__init__(
            name="faster_whisper",
            model=model,
            engine="whisper_engine",
            settings={
                "path": str(directory),
                "device": device,
                "compute_type": compute_type,
                "cpu_threads": cpu_threads or max(processors() // max(workers, 1), 1),
                "beam_size": beam_size,
                # CUDA claims addresses without end; elsewhere weights are read, converted and worked with.
                "address_space": (4 << 30) + 4 * weights if device == "cpu" else None,
            },
            capabilities=ModelCapabilities(
                languages=["en"] if english else _LANGUAGES, options=sorted(_OPTIONS), translation=not english
            ),
            workers=workers,
            max_waiting=max_waiting,
            max_audio_seconds=max_audio_seconds,
        )

    def options(self, attempt: Attempt) -> dict[str, Any]:
        """faster-whisper's own options.

        Raises:
            UnsupportedParameter: An option asks for what it cannot do.
        """
        config = attempt.config
        who = f"{self.name} ({self.model})"
        dropped = attempt.dropped_params if self._drop_params else None
        accepted = accepted_options(config, _OPTIONS, dropped=dropped, who=who)
        options: dict[str, Any] = {"task": "translate" if is_translation(config) else "transcribe"}
        if language := language_hints(config, takes_several=False)[0]:
            options["language"] = self._language(language)
        if "prompt" in accepted:
            options["initial_prompt"] = config.prompt
        if "keywords" in accepted:
            options["hotwords"] = ", ".join(config.keywords)
        if "temperature" in accepted:
            options["temperature"] = config.temperature
        if TimestampGranularity.TIMESTAMP_GRANULARITY_WORD in config.timestamp_granularities:
            options["word_timestamps"] = True
        return options

    def _language(self, asked: str) -> str:
        code = asked.replace("_", "-").partition("-")[0].lower()
        code = _OTHER_CODES.get(code, code)
        if code not in self.capabilities.languages:
            raise UnsupportedParameter(
                f"{self.name} ({self.model}) does not know the language {asked[:64]!r}; it takes codes such as 'de' of "
                f"{len(self.capabilities.languages)} languages.",
                param="language",
                metadata={"parameter": "language"},
            )
        return code


def find_model(model: str, directory: Path | None, root: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory of a model, with everything in it.

    Args:
        model: A size, or a name at Hugging Face.
        directory: Where it is, if that is known.
        root: Directory with models, each in a directory of its name or as Hugging Face's cache has it; None means
            that cache.
        environ: Where Hugging Face's variables are looked up.

    Raises:
        ValueError: There is none, or something is missing in it.
    """
    candidates = [directory] if directory is not None else _candidates(model, root or _hub_cache(environ))
    found = next((one for one in candidates if one.is_dir()), None)
    if found is None:
        raise ValueError(
            f"the model {model[:255]!r} is not on this machine. Fetch it (hf download "
            f"{_hub_name(model)[:255]}), or say where it is: its own directory as model_path, or the one above it as "
            "download_root"
        )
    if missing := [name for name in _FILES if not any(found.glob(name))]:
        raise ValueError(
            f"the directory of the model {model[:255]!r} has no {' and no '.join(missing)}; it must hold a Whisper "
            "model in CTranslate2's format"
        )
    return found


def _tokens(directory: Path) -> int:
    """How many tokens a model has: a JSON list, or in older models a line for each."""
    file = next(directory.glob("vocabulary.*"))
    try:
        if file.suffix == ".json":
            return len(msgspec.json.decode(file.read_bytes(), type=list[str]))
        return file.read_bytes().count(b"\n")
    except msgspec.MsgspecError:
        raise ValueError(f"{file.name} of the model is damaged") from None


def _candidates(model: str, root: Path) -> list[Path]:
    # The name may be a caller's, where a wildcard stands in the configuration.
    if Path(model).is_absolute() or ".." in Path(model).parts:
        return []
    hub = root / f"models--{_hub_name(model).replace('/', '--')}"
    revision = hub / "refs" / "main"
    found = [root / model]
    if revision.is_file():
        found.append(hub / "snapshots" / revision.read_text("utf-8").strip())
    return found + sorted(hub.glob("snapshots/*"))


def _hub_name(model: str) -> str:
    if "/" in model:
        return model
    if model.startswith("distil-"):
        return _HUB.get(model, f"Systran/faster-distil-whisper-{model.removeprefix('distil-')}")
    return _HUB.get(model, f"Systran/faster-whisper-{model}")


def _hub_cache(environ: Mapping[str, str]) -> Path:
    if cache := environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = environ.get("HF_HOME")
    return (Path(home) if home else Path("~/.cache/huggingface").expanduser()) / "hub"


def build(params: ProviderParams) -> FasterWhisperProvider:
    """The adapter of a deployment of `faster_whisper`.

    Raises:
        ValueError: Something is missing, or a setting is wrong; the message says what.
    """
    settings = Settings(params)
    name, path = settings.place(params.model)
    root, device, compute_type = settings.path("download_root"), settings.text("device"), settings.text("compute_type")
    cpu_threads, beam_size = settings.number("cpu_threads", 0), settings.number("beam_size", 5)
    workers = settings.number("workers", 1)
    settings.check()
    return FasterWhisperProvider(
        model=name,
        directory=path,
        root=root,
        device=device or "auto",
        compute_type=compute_type or "default",
        cpu_threads=cpu_threads,
        beam_size=beam_size,
        workers=workers,
        max_audio_seconds=params.local["max_audio_seconds"],
        drop_params=params.drop_params,
        environ=params.environ,
    )
