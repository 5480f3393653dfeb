"""What this release does with each key of LiteLLM's configuration.

The one table of it: a release that begins to honour a key moves it to another row. The keys under `voxgate:` are
those of `settings.py`, and all honoured.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import get_args

from voxgate_server.config.settings import VoxgateSettings
from voxgate_server.config.types import Section

__all__ = ["ADAPTER_KEYS", "Key", "Standing", "siblings", "standing"]


class Standing(StrEnum):
    """What becomes of a key."""

    HONOURED = "honoured"
    DIFFERS = "differs"
    """It works, not quite as in LiteLLM."""
    IGNORED = "ignored"
    """A key of LiteLLM's without effect in this release."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Key:
    """Standing of a key."""

    standing: Standing
    note: str = ""
    """Why it is ignored, or how it differs."""


_PARAMS = "model_list.*.litellm_params"
_INFO = "model_list.*.model_info"
_SECOND_PRICES = "input_cost_per_second output_cost_per_second"
_TOKEN_PRICES = "input_cost_per_token input_cost_per_audio_token output_cost_per_token"  # noqa: S105
_TOKEN_COST = "planned: cost of a call; cost-based-routing compares prices per second of audio"  # noqa: S105
_SECOND_COST = "chooses the cheapest in cost-based-routing; planned: cost of a call"
_RETRIES = "attempts after the first at each group; in an outage a budget of a tenth of the calls bounds them"
_FAILS = "counts failures in a row, besides more than half of the requests of a minute"
_LARGE = "tried when a provider finds the recording too large"
_WINDOW = "counted in each process for itself"
_REDIS = "planned: state shared between machines"
_LIMITS = "planned: limits in tokens; rpm and max_parallel_requests are kept"
_ACCOUNTS = "planned: keys and budgets"
_CHAT = "has no meaning for transcription"
_LOGGING = "planned: logging targets"
_HEALTH = "planned: health checks"

_SENT = "sent to the provider with every request, unless the caller sets it,"
_RIVA = "offline language_code boost max_speaker_count profanity_filter verbatim_transcripts"
_ENGINES = "model_path download_root model_type device compute_type cpu_threads beam_size workers quantized"
ADAPTER_KEYS = frozenset(f"{_RIVA} {_ENGINES}".split())
"""Keys of `litellm_params` that only single adapters have a meaning for."""

_HONOURED, _DIFFERS, _IGNORED = Standing.HONOURED, Standing.DIFFERS, Standing.IGNORED

# where, which keys, what becomes of them, why or how
_ROWS: tuple[tuple[str, str, Standing, str], ...] = (
    ("", "model_list router_settings litellm_settings general_settings include credential_list", _HONOURED, ""),
    ("", "environment_variables", _HONOURED, "seen by this configuration and its providers, not by other processes"),
    ("", "guardrails", _IGNORED, "planned: guardrails"),
    ("environment_variables", "*", _HONOURED, ""),
    ("credential_list.*", "credential_name credential_values", _HONOURED, ""),
    ("credential_list.*", "credential_info", _HONOURED, "its custom_llm_provider; the rest is a description"),
    # model_list
    ("model_list.*", "model_name litellm_params model_info", _HONOURED, ""),
    (_PARAMS, "model api_key api_base base_url organization timeout extra_headers drop_params", _HONOURED, ""),
    (_PARAMS, "custom_llm_provider litellm_credential_name", _HONOURED, ""),
    (_PARAMS, "api_version tenant_id client_id client_secret azure_ad_token", _HONOURED, "for azure"),
    (_PARAMS, "region_name", _HONOURED, "for providers with regions"),
    (_PARAMS, "vertex_project vertex_location vertex_credentials", _HONOURED, "for vertex_ai"),
    (_PARAMS, "nvcf_function_id use_ssl", _HONOURED, "for nvidia_riva"),
    (_PARAMS, _RIVA, _HONOURED, f"for nvidia_riva; {_SENT} elsewhere"),
    (_PARAMS, _ENGINES, _HONOURED, f"for faster_whisper and sherpa_onnx; {_SENT} elsewhere"),
    (_PARAMS, "configurable_clientside_auth_params", _IGNORED, "planned: credentials sent by callers"),
    (_PARAMS, "allowed_openai_params", _HONOURED, "further options callers may send, by their names at the provider"),
    (_PARAMS, "rpm max_parallel_requests", _HONOURED, _WINDOW),
    (_PARAMS, "tpm itpm otpm", _IGNORED, _LIMITS),
    (_PARAMS, "max_budget budget_duration default_api_key_tpm_limit default_api_key_rpm_limit", _IGNORED, _ACCOUNTS),
    (_PARAMS, "max_file_size_mb", _IGNORED, "use voxgate.limits.max_audio_bytes, which holds for all deployments"),
    (_PARAMS, "weight", _HONOURED, "a weight of 0 comes last"),
    (_PARAMS, "order", _HONOURED, "1 first; higher ones after all lower ones failed"),
    (_PARAMS, "tags", _HONOURED, "read when router_settings.enable_tag_filtering is set"),
    (_PARAMS, "tag_regex", _IGNORED, "planned: tags by pattern"),
    (_PARAMS, "cooldown_time", _HONOURED, ""),
    (_PARAMS, "max_retries num_retries", _IGNORED, "use router_settings.num_retries, which holds for all groups"),
    (_PARAMS, "stream_timeout", _IGNORED, "planned: answers as a stream"),
    (_PARAMS, "mock_response", _IGNORED, "planned: mock answers"),
    (_PARAMS, "guardrails", _IGNORED, "planned: guardrails"),
    (_PARAMS, _SECOND_PRICES, _DIFFERS, _SECOND_COST),
    (_PARAMS, _TOKEN_PRICES, _IGNORED, _TOKEN_COST),
    (_INFO, "id mode", _HONOURED, ""),
    (_INFO, "base_model", _DIFFERS, "says which model a deployment is, where its name does not; planned: its price"),
    (_INFO, _SECOND_PRICES, _DIFFERS, _SECOND_COST),
    (_INFO, _TOKEN_PRICES, _IGNORED, _TOKEN_COST),
    (_INFO, "tier team_id access_windows blocked", _IGNORED, _ACCOUNTS),
    (_INFO, "cooldown cooldown_time", _IGNORED, "use litellm_params.cooldown_time"),
    (_INFO, "allowed_fails allowed_fails_policy", _IGNORED, "use router_settings.allowed_fails"),
    (_INFO, "enable_tag_filtering", _IGNORED, "use router_settings.enable_tag_filtering"),
    (_INFO, "health_check_timeout health_check_model disable_background_health_check", _IGNORED, _HEALTH),
    # router_settings
    ("router_settings", "fallbacks model_group_alias", _HONOURED, ""),
    ("router_settings", "default_fallbacks", _HONOURED, ""),
    ("router_settings", "context_window_fallbacks", _HONOURED, _LARGE),
    ("router_settings", "content_policy_fallbacks", _HONOURED, ""),
    ("router_settings.fallbacks.*.*.*", "model", _HONOURED, ""),
    ("router_settings.context_window_fallbacks.*.*.*", "model", _HONOURED, ""),
    ("router_settings.content_policy_fallbacks.*.*.*", "model", _HONOURED, ""),
    ("router_settings.model_group_alias.*", "model hidden", _HONOURED, ""),
    (
        "router_settings",
        "timeout",
        _DIFFERS,
        "seconds of one attempt; voxgate.limits.request_timeout_seconds bounds all",
    ),
    ("router_settings", "routing_strategy", _HONOURED, "latency is per second of audio, usage in seconds of audio"),
    ("router_settings", "routing_strategy_args", _IGNORED, "the strategies have nothing to set"),
    ("router_settings", "num_retries", _DIFFERS, _RETRIES),
    ("router_settings", "retry_after", _IGNORED, "waits are at random under a doubling ceiling, or the provider's own"),
    ("router_settings", "retry_policy model_group_retry_policy", _IGNORED, "planned: retries by the kind of failure"),
    ("router_settings", "max_fallbacks disable_cooldowns", _HONOURED, ""),
    ("router_settings", "cooldown_time", _DIFFERS, "doubled, up to 300 s, each time a deployment fails again after it"),
    ("router_settings", "allowed_fails", _DIFFERS, _FAILS),
    ("router_settings", "allowed_fails_policy", _IGNORED, "planned: cooldown by the kind of failure"),
    ("router_settings", "enable_pre_call_checks optional_pre_call_checks", _IGNORED, "planned: checks before a call"),
    ("router_settings", "deployment_affinity_ttl", _IGNORED, "planned: checks before a call"),
    ("router_settings", "enable_tag_filtering", _HONOURED, ""),
    ("router_settings", "tag_filtering_match_any", _IGNORED, "one tag in common is enough"),
    ("router_settings", "routing_groups", _IGNORED, "planned: routing groups"),
    ("router_settings", "enable_weighted_failover", _IGNORED, "a failed call always goes on to the rest of its group"),
    ("router_settings", "provider_budget_config", _IGNORED, _ACCOUNTS),
    ("router_settings", "alerting_config", _IGNORED, _LOGGING),
    ("router_settings", "redis_url redis_host redis_port redis_password redis_db cache_kwargs", _IGNORED, _REDIS),
    ("router_settings", "cache_responses caching_groups", _IGNORED, "planned: cache"),
    ("router_settings", "client_ttl", _IGNORED, "connections are kept as long as they are of use"),
    ("router_settings", "default_max_parallel_requests", _IGNORED, "use max_parallel_requests of each deployment"),
    ("router_settings", "default_litellm_params", _IGNORED, "planned: defaults for deployments"),
    (
        "router_settings",
        "ignore_invalid_deployments",
        _IGNORED,
        "a deployment without its variables never stops the rest",
    ),
    ("router_settings", "stream_timeout", _IGNORED, "planned: answers as a stream"),
    # litellm_settings
    ("litellm_settings", "fallbacks", _HONOURED, ""),
    ("litellm_settings", "default_fallbacks drop_params", _HONOURED, ""),
    ("litellm_settings", "context_window_fallbacks", _HONOURED, _LARGE),
    ("litellm_settings", "content_policy_fallbacks", _HONOURED, ""),
    ("litellm_settings.fallbacks.*.*.*", "model", _HONOURED, ""),
    ("litellm_settings.context_window_fallbacks.*.*.*", "model", _HONOURED, ""),
    ("litellm_settings.content_policy_fallbacks.*.*.*", "model", _HONOURED, ""),
    ("litellm_settings", "request_timeout", _DIFFERS, "seconds of one attempt; see router_settings.timeout"),
    ("litellm_settings", "callbacks success_callback failure_callback service_callback", _IGNORED, _LOGGING),
    ("litellm_settings", "turn_off_message_logging redact_user_api_key_info json_logs", _IGNORED, _LOGGING),
    ("litellm_settings", "cache cache_params", _IGNORED, "planned: cache"),
    ("litellm_settings", "num_retries", _DIFFERS, _RETRIES),
    ("litellm_settings", "allowed_fails", _DIFFERS, _FAILS),
    ("litellm_settings", "max_budget budget_duration max_end_user_budget", _IGNORED, _ACCOUNTS),
    ("litellm_settings", "default_internal_user_params default_team_settings", _IGNORED, _ACCOUNTS),
    ("litellm_settings", "upperbound_key_generate_params model_group_settings", _IGNORED, _ACCOUNTS),
    ("litellm_settings", "post_call_rules custom_provider_map", _IGNORED, "names Python code of LiteLLM's"),
    ("litellm_settings", "guardrails", _IGNORED, "planned: guardrails"),
    ("litellm_settings", "set_verbose", _IGNORED, _LOGGING),
    ("litellm_settings", "ssl_verify", _IGNORED, "certificates of providers are always verified"),
    # general_settings
    ("general_settings", "master_key", _HONOURED, ""),
    (
        "general_settings",
        "dangerously_permit_weak_or_unset_master_key",
        _IGNORED,
        "a weak key is warned about, never refused",
    ),
    ("general_settings", "dangerously_allow_mock_testing_request_params", _HONOURED, "for mock_testing_fallbacks"),
    ("general_settings", "database_url store_model_in_db disable_spend_logs proxy_batch_write_at", _IGNORED, _ACCOUNTS),
    ("general_settings", "custom_auth", _IGNORED, "names Python code of LiteLLM's"),
    ("general_settings", "key_management_system", _IGNORED, "secrets come from the environment"),
    ("general_settings", "max_parallel_requests global_max_parallel_requests", _IGNORED, "planned: limits per key"),
    ("general_settings", "max_in_flight_requests_per_worker", _IGNORED, "use voxgate.limits.max_concurrent_calls"),
    ("general_settings", "max_request_size_mb", _IGNORED, "use voxgate.limits.max_audio_bytes"),
    ("general_settings", "max_response_size_mb", _IGNORED, "planned: limits of answers"),
    ("general_settings", "background_health_checks health_check_interval", _IGNORED, _HEALTH),
    ("general_settings", "alerting alerting_threshold alert_types", _IGNORED, _LOGGING),
    ("general_settings", "allowed_routes enforce_fallback_model_access", _IGNORED, _ACCOUNTS),
    ("general_settings", "user_header_name user_header_mappings", _IGNORED, _ACCOUNTS),
    ("general_settings", "forward_client_headers_to_llm_api", _IGNORED, "planned: headers passed on to providers"),
    ("general_settings", "pass_through_endpoints", _IGNORED, _CHAT),
    ("general_settings", "infer_model_from_keys", _IGNORED, _CHAT),
    ("general_settings", "cancel_on_disconnect", _IGNORED, "a caller who leaves always ends the call"),
    ("general_settings", "allow_client_side_credentials", _IGNORED, "planned: credentials sent by callers"),
    ("general_settings", "expose_router_debug_in_errors", _IGNORED, "errors never show the inside of the router"),
    ("general_settings", "include_call_id_in_error_body", _IGNORED, "the id of a call is in a header of every answer"),
)


@dataclass(slots=True)
class _Level:
    key: Key = Key(Standing.UNKNOWN)
    below: dict[str, "_Level"] = field(default_factory=dict)

    def at(self, path: str) -> "_Level":
        level = self
        for part in path.split(".") if path else ():
            level = level.below.setdefault(part, _Level(level.key))
        return level


def _build() -> _Level:
    root = _Level()
    for where, names, what, note in _ROWS:
        for name in names.split():
            root.at(where).at(name).key = Key(what, note)

    def add(level: _Level, section: type[Section]) -> None:
        level.key = Key(Standing.HONOURED)
        for name, info in section.model_fields.items():
            below = level.at(name)
            below.key = Key(Standing.HONOURED)
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                add(below, info.annotation)
            else:
                for inner in get_args(info.annotation):
                    if isinstance(inner, type) and issubclass(inner, Section):
                        add(below.at("*"), inner)  # a map from names to sections, or a list of them

    add(root.at("voxgate"), VoxgateSettings)
    return root


_TABLE = _build()


def _find(path: tuple[str | int, ...]) -> _Level | None:
    level = _TABLE
    for part in path:
        if not level.below:
            # The table says nothing about what is inside this key: it has the key's own standing.
            return level
        following = level.below.get(part if isinstance(part, str) else "*") or level.below.get("*")
        if following is None:
            return None
        level = following
    return level


def standing(path: tuple[str | int, ...]) -> Key:
    """What becomes of the key at a path; indices of lists are numbers in it."""
    level = _find(path)
    if level is None and path[0] == "model_list" and path[2:3] == ("litellm_params",):
        return Key(Standing.UNKNOWN, "sent to the provider with every request, unless the caller sets it")
    return level.key if level else Key(Standing.UNKNOWN)


def siblings(path: tuple[str | int, ...]) -> list[str]:
    """The keys known where a path leads to, without its last part: what a typing error may have been meant to be."""
    level = _find(path[:-1])
    return [name for name in level.below if name != "*"] if level else []
