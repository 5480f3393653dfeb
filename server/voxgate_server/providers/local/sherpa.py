"""The adapter of sherpa-onnx, `sherpa_onnx/…`: ONNX models that lie on this machine. Nothing is downloaded."""

from pathlib import Path
from typing import Any

from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.local.provider import LocalProvider, missing_packages, processors
from voxgate_server.providers.local.settings import Settings
from voxgate_server.providers.options import accepted_options

__all__ = ["SherpaOnnxProvider", "build", "find_files"]

_TRANSDUCER = ("encoder", "decoder", "joiner", "tokens")
_CTC = ("model", "tokens")
_PARTS = {"transducer": _TRANSDUCER, "nemo_transducer": _TRANSDUCER, "nemo_ctc": _CTC, "zipformer_ctc": _CTC}
"""By the type of a model: what it consists of."""


class SherpaOnnxProvider(LocalProvider):
    """Recognises speech with a model in sherpa-onnx's form: a directory with ONNX files and `tokens.txt`.

    Args:
        model: Its name.
        directory: Where it is.
        model_type: `transducer`, `nemo_transducer`, `nemo_ctc` or `zipformer_ctc`.
        language: What it was trained on, ISO 639-1; empty where that is not known: then callers cannot ask for one.
        quantized: Take the files with int8 in their names, where there are both.
        device: `cpu` or `cuda`.
        cpu_threads: How many processors a worker uses; 0 means its share of all.
        workers: How many recordings are recognised at a time; each has the model in memory.
        max_waiting: How many calls may wait for a worker; more are refused as Overloaded.
        max_audio_seconds: The longest recording that is taken, in seconds.
        drop_params: Leave options it cannot take out and report them, instead of refusing the call.

    Raises:
        ValueError: A package, the model or a part of it is missing, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        model: str,
        directory: Path,
        model_type: str,
        language: str = "",
        quantized: bool = False,
        device: str = "cpu",
        cpu_threads: int = 0,
        workers: int = 1,
        max_waiting: int = 64,
        max_audio_seconds: float = 4 * 3600,
        drop_params: bool = False,
    ) -> None:
        if missing := missing_packages("sherpa_onnx", "av", "numpy"):
            raise ValueError(f"sherpa_onnx needs {' and '.join(missing)}: pip install 'voxgate[sherpa-onnx]'")
        if device not in {"cpu", "cuda"} or cpu_threads < 0:
            raise ValueError("device must be cpu or cuda, cpu_threads at least 0")
        files = find_files(model, directory, model_type, quantized=quantized)
        weights = sum(file.stat().st_size for file in files.values())
        self._known = frozenset({"timestamp_granularities"} | ({"language"} if language else set()))
        self._drop_params = drop_params
        super().__init__(
            name="sherpa_onnx",
            model=model,
            engine="sherpa_engine",
            settings={
                "model_type": model_type,
                "files": {part: str(file) for part, file in files.items()},
                "device": device,
                "cpu_threads": cpu_threads or max(processors() // max(workers, 1), 1),
                "language": language,
                # CUDA claims addresses without end; elsewhere weights are read, converted and worked with.
                "address_space": (4 << 30) + 4 * weights if device == "cpu" else None,
            },
            capabilities=ModelCapabilities(languages=[language] if language else [], options=sorted(self._known)),
            workers=workers,
            max_waiting=max_waiting,
            max_audio_seconds=max_audio_seconds,
        )

    def options(self, attempt: Attempt) -> dict[str, Any]:
        """There is nothing to be told; the router has seen to it that a language is the model's own.

        Raises:
            UnsupportedParameter: An option asks for what it cannot do.
        """
        dropped = attempt.dropped_params if self._drop_params else None
        accepted_options(attempt.config, self._known, dropped=dropped, who=f"{self.name} ({self.model})")
        return {}


def find_files(model: str, directory: Path, model_type: str, *, quantized: bool) -> dict[str, Path]:
    """The files of a model, by the names of its parts.

    Args:
        model: Its name, for messages.
        directory: Where it is.
        model_type: Of which kind.
        quantized: Take those with int8 in their names, where there are both.

    Raises:
        ValueError: There is no such kind or directory, or something is missing in it.
    """
    if model_type not in _PARTS:
        raise ValueError(f"model_type of sherpa_onnx must be one of {', '.join(_PARTS)}")
    if not directory.is_dir():
        raise ValueError(
            f"the model {model[:255]!r} is not on this machine: say where it is, its own directory as model_path, or "
            "the one above it as download_root"
        )
    files = {}
    missing = []
    for part in _PARTS[model_type]:
        found = sorted(directory.glob(f"{part}*.txt" if part == "tokens" else f"{part}*.onnx"))
        if found:
            files[part] = min(found, key=lambda file: ("int8" in file.name) != quantized)
        else:
            missing.append("tokens.txt" if part == "tokens" else f"{part}*.onnx")
    if missing:
        raise ValueError(
            f"the directory of the model {model[:255]!r} has no {' and no '.join(missing)}: a {model_type} needs it"
        )
    return files


def _below(root: Path | None, model: str) -> Path:
    # The name may be a caller's, where a wildcard stands in the configuration.
    if root is None or ".." in Path(model).parts:
        raise ValueError(
            f"sherpa_onnx does not know where the model {model[:255]!r} is: say its own directory as model_path, or "
            "the one above it as download_root"
        )
    return root / model


def build(params: ProviderParams) -> SherpaOnnxProvider:
    """The adapter of a deployment of `sherpa_onnx`.

    Raises:
        ValueError: Something is missing, or a setting is wrong; the message says what.
    """
    settings = Settings(params)
    model, path = settings.place(params.model)
    root, model_type = settings.path("download_root"), settings.text("model_type")
    language, device, quantized = settings.text("language"), settings.text("device"), settings.flag("quantized")
    cpu_threads, workers = settings.number("cpu_threads", 0), settings.number("workers", 1)
    settings.check()
    return SherpaOnnxProvider(
        model=model,
        directory=path or _below(root, model),
        model_type=model_type or "",
        language=language or "",
        quantized=quantized,
        device=device or "cpu",
        cpu_threads=cpu_threads,
        workers=workers,
        max_audio_seconds=params.local["max_audio_seconds"],
        drop_params=params.drop_params,
    )
