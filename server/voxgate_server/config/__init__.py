"""The configuration: LiteLLM's proxy YAML read as it is, and what it has no word for under `voxgate:`."""

from voxgate_server.config.hidden import Hidden
from voxgate_server.config.keys import Standing
from voxgate_server.config.loader import LoadedConfig, default_config, load_config
from voxgate_server.config.models import (
    GatewayConfig,
    GeneralSettings,
    LitellmParams,
    ModelEntry,
    ModelInfo,
    split_model,
)
from voxgate_server.config.problems import ConfigError, Place, Problem
from voxgate_server.config.report import KeyReport, check
from voxgate_server.config.resolve import Environment
from voxgate_server.config.router import Alias, LitellmSettings, RouterSettings, RoutingStrategy
from voxgate_server.config.settings import (
    AdminSettings,
    DebugSettings,
    LimitSettings,
    ListenSettings,
    LocalSettings,
    PortkeySettings,
    StreamingSettings,
    TlsSettings,
    VoxgateSettings,
)

__all__ = [
    "AdminSettings",
    "Alias",
    "ConfigError",
    "DebugSettings",
    "Environment",
    "GatewayConfig",
    "GeneralSettings",
    "Hidden",
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
    "PortkeySettings",
    "Problem",
    "RouterSettings",
    "RoutingStrategy",
    "Standing",
    "StreamingSettings",
    "TlsSettings",
    "VoxgateSettings",
    "check",
    "default_config",
    "load_config",
    "split_model",
]
