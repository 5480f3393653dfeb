"""One adapter per provider or dialect, and what adapters are made of: the interface of packages that bring one.

These names stay, wherever they are defined; docs/providers.md tells how to use them. Each is imported when it is
asked for: who reads a configuration, or works in a process of its own, needs no HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxgate_server.providers.audio_body import AudioBody
    from voxgate_server.providers.base import Attempt, Builder, Provider, ProviderParams
    from voxgate_server.providers.extra_params import caller_params, operator_params
    from voxgate_server.providers.http_call import (
        Answer,
        HttpCall,
        Refusal,
        checked_base,
        header_pairs,
        raw_payload,
    )
    from voxgate_server.providers.http_errors import Upstream
    from voxgate_server.providers.limits import check_size, known_size
    from voxgate_server.providers.multipart_body import MultipartBody
    from voxgate_server.providers.options import accepted_options, is_translation, language_hints
    from voxgate_server.providers.speakers import SpeakerNames

__all__ = [
    "Answer",
    "Attempt",
    "AudioBody",
    "Builder",
    "HttpCall",
    "MultipartBody",
    "Provider",
    "ProviderParams",
    "Refusal",
    "SpeakerNames",
    "Upstream",
    "accepted_options",
    "caller_params",
    "check_size",
    "checked_base",
    "header_pairs",
    "is_translation",
    "known_size",
    "language_hints",
    "operator_params",
    "raw_payload",
]

_MODULES = {
    "audio_body": ("AudioBody",),
    "base": ("Attempt", "Builder", "Provider", "ProviderParams"),
    "extra_params": ("caller_params", "operator_params"),
    "http_call": ("Answer", "HttpCall", "Refusal", "checked_base", "header_pairs", "raw_payload"),
    "http_errors": ("Upstream",),
    "limits": ("check_size", "known_size"),
    "multipart_body": ("MultipartBody",),
    "options": ("accepted_options", "is_translation", "language_hints"),
    "speakers": ("SpeakerNames",),
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
