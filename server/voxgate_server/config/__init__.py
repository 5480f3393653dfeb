"""The configuration: LiteLLM's proxy YAML read as it is, and what it has no word for under `voxgate:`."""

from voxgate_server.config.keys import Standing
from voxgate_server.config.loader import LoadedConfig, default_config, load_config
from voxgate_server.config.models import (
    Alias,
    GatewayConfig,
    GeneralSettings,
    LitellmParams,
    LitellmSettings,
    ModelEntry,
    ModelInfo,
    RouterSettings,
    split_model,
)
from voxgate_server.config.problems import ConfigError, Place, Problem
from voxgate_server.config.report import KeyReport, check
from voxgate_server.config.resolve import Environment
from voxgate_server.config.settings import (
    DebugSettings,
    LimitSettings,
    ListenSettings,
    LocalSettings,
    TlsSettings,
    VoxgateSettings,
)

__all__ = [
    "Alias",
    "ConfigError",
    "DebugSettings",
    "Environment",
    "GatewayConfig",
    "GeneralSettings",
    "KeyReport",
    "LimitSettings",
    "ListenSettings",
    "LitellmParams",
    "LitellmSettings",
    "LoadedConfig",
    "LocalSettings",
    "ModelEntry",
    "ModelInfo",
    "Place",
    "Problem",
    "RouterSettings",
    "Standing",
    "TlsSettings",
    "VoxgateSettings",
    "check",
    "default_config",
    "load_config",
    "split_model",
]
