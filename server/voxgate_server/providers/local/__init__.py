"""Recognisers on this machine: `provider` is what their adapters share, `worker` what runs in processes of its own.

The adapters are imported when they are asked for: a worker imports this package too, and grpc and the rest of the
server stay out of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxgate_server.providers.base import ProviderParams
    from voxgate_server.providers.local.pocketsphinx import PocketsphinxProvider
    from voxgate_server.providers.local.sherpa import SherpaOnnxProvider
    from voxgate_server.providers.local.whisper import FasterWhisperProvider

__all__ = ["FasterWhisperProvider", "PocketsphinxProvider", "SherpaOnnxProvider", "build"]

_MODULES = {
    "FasterWhisperProvider": "whisper",
    "PocketsphinxProvider": "pocketsphinx",
    "SherpaOnnxProvider": "sherpa",
}


def build(params: "ProviderParams") -> "PocketsphinxProvider":
    """The adapter of a deployment of `local`.

    Raises:
        ValueError: There is no such model, or a package is not installed.
    """
    from voxgate_server.providers.local.pocketsphinx import PocketsphinxProvider

    if not params.local:
        raise ValueError(f"'{params.provider}' runs on this machine, where only the operator decides what runs")
    return PocketsphinxProvider(
        model=params.model, workers=params.local["workers"], max_audio_seconds=params.local["max_audio_seconds"]
    )


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
