"""The embedded recogniser `local/pocketsphinx`: `provider` is the adapter, `worker` what runs in processes of its own.

The adapter is imported when it is asked for: a worker imports this package too, and grpc and the rest of the server
stay out of it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxgate_server.providers.base import ProviderParams
    from voxgate_server.providers.local.provider import PocketsphinxProvider, missing_packages

__all__ = ["PocketsphinxProvider", "build", "missing_packages"]


def build(params: "ProviderParams") -> "PocketsphinxProvider":
    """The adapter of a deployment of `local`.

    Raises:
        ValueError: There is no such model, or a package is not installed.
    """
    from voxgate_server.providers.local.provider import PocketsphinxProvider

    return PocketsphinxProvider(
        model=params.model, workers=params.local["workers"], max_audio_seconds=params.local["max_audio_seconds"]
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(name)
    from voxgate_server.providers.local import provider

    return getattr(provider, name)
