"""From a file, or from nothing, to the configuration the gateway runs with."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr, ValidationError

from voxgate_server.config.explain import explain
from voxgate_server.config.files import read_source
from voxgate_server.config.groups import check_groups
from voxgate_server.config.models import AUDIO_MODES, GatewayConfig, ModelEntry
from voxgate_server.config.problems import ConfigError, Place, Problem, quoted
from voxgate_server.config.report import key_warnings
from voxgate_server.config.resolve import (
    Environment,
    environment_of,
    locate_paths,
    merge_credentials,
    settle_unset,
    substitute,
)
from voxgate_server.config.tree import Node, find, plain

__all__ = ["LoadedConfig", "default_config", "load_config"]

WEAK_KEYS = re.compile(
    r"(sk-)?(1234(5678?|56|567890)?|admin|change[-_]?me|default|secret|super[-_]?secret|top[-_]?secret|password|test"
    r"|voxgate|(litellm|my|your)?[-_]?(litellm)?[-_]?(special|master)?[-_]?key|master|litellm([-_]?1234)?)"
)
"""Keys of tutorials and of people in a hurry."""
SHORTEST_KEY = 16
"""Characters below which a master key can be found by trying."""


_USUAL_MODELS = (
    # What callers ask for, what that is, and the variables whose key it needs. Models that several providers have are
    # asked for by the provider's name too.
    ("whisper-1", "openai/whisper-1", ("OPENAI_API_KEY",)),
    ("groq/whisper-large-v3", "groq/whisper-large-v3", ("GROQ_API_KEY",)),
    ("groq/whisper-large-v3-turbo", "groq/whisper-large-v3-turbo", ("GROQ_API_KEY",)),
    ("fireworks_ai/whisper-v3", "fireworks_ai/whisper-v3", ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY")),
    ("ovhcloud/whisper-large-v3", "ovhcloud/whisper-large-v3", ("OVHCLOUD_API_KEY", "OVH_AI_ENDPOINTS_ACCESS_TOKEN")),
    ("nova-3", "deepgram/nova-3", ("DEEPGRAM_API_KEY",)),
    ("gemini-3.5-transcribe", "gemini/gemini-3.5-transcribe", ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
    ("voxtral-mini-latest", "mistral/voxtral-mini-latest", ("MISTRAL_API_KEY",)),
    ("scribe_v2", "elevenlabs/scribe_v2", ("ELEVENLABS_API_KEY",)),
    ("universal-3-5-pro", "assemblyai/universal-3-5-pro", ("ASSEMBLYAI_API_KEY",)),
)
"""Served without a file. A provider that needs more than a key is not among them."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and what its operator should know about it."""

    config: GatewayConfig
    warnings: tuple[Problem, ...] = ()
    """In the order of the file, those with `loud` first."""
    environment: Environment = field(default_factory=lambda: Environment({}))
    """The environment, the file's `environment_variables` on top: where adapters look up their usual variables."""
    model_places: tuple[Place, ...] = ()
    """Where each entry of `config.model_list` stands, for later errors about it; empty without a file."""


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> LoadedConfig:
    """Loads LiteLLM's YAML with our `voxgate:` section.

    A file without `model_list` is served the models of `default_config`. A deployment one of whose parameters
    names a variable that is not set is kept, with the reason in its `problems`, and must not be used.

    Args:
        path: The file.
        environ: Variables for `os.environ/NAME`. Default: the process's own. Never changed.

    Raises:
        ConfigError: The file cannot be used. Has all problems, each with file, line and column.
    """
    problems: list[Problem] = []
    source = read_source(path, problems)
    warnings = [*source.warnings, *key_warnings(source.root)]
    environment = environment_of(source.root, os.environ if environ is None else environ, warnings)
    root = merge_credentials(substitute(source.root, environment), problems)
    root, unusable = settle_unset(root, problems)
    root = locate_paths(root, problems)
    data = plain(root)
    has_models = isinstance(data, dict) and "model_list" in data
    if not has_models:
        root = root.holding({key: node for key, node in root.map.items() if key != "model_list"})
        what = "model_list: there is none, so the embedded recogniser and what the environment has keys for is served"
        warnings.append(Problem(root.place, what))
    data = _with_defaults(data, environment)
    check_groups(root, () if has_models else _names(data), problems, warnings)
    _check_ids(root, problems)
    _check_wildcards(root, problems)
    try:
        config = GatewayConfig.model_validate(data)
    except ValidationError as error:
        known = {problem.place for problem in problems}
        raise ConfigError([*problems, *explain(error, root, GatewayConfig, known)]) from None
    if problems:
        raise ConfigError(problems)
    config = _finished(config, root, unusable, warnings)
    listed = root.map.get("model_list")
    return LoadedConfig(
        config,
        tuple(sorted(warnings, key=lambda warning: (not warning.loud, warning.place))),
        environment,
        tuple(_place_of_model(entry) for entry in listed.items) if listed else (),
    )


def default_config(environ: Mapping[str, str] | None = None) -> LoadedConfig:
    """What is served when there is no file.

    The embedded recogniser as `pocketsphinx`, which also answers to `local/pocketsphinx` and `whisper-1`. With
    OPENAI_API_KEY set, `whisper-1` is OpenAI's. A model of every other provider whose usual key is set is there too.
    Each of them has the embedded recogniser as its fallback.

    Args:
        environ: The environment. Default: the process's own.
    """
    environment = Environment(os.environ if environ is None else environ)
    config = GatewayConfig.model_validate(_with_defaults({}, environment))
    warnings: list[Problem] = []
    config = _finished(config, Node(Place("<defaults>", 1, 1), {}), {}, warnings)
    return LoadedConfig(config, tuple(warnings), environment)


def _with_defaults(data: Any, environment: Mapping[str, str]) -> Any:
    """Adds the models and the master key of the environment where the file has none."""
    if "model_list" not in data:
        models: list[dict[str, Any]] = [
            {"model_name": "pocketsphinx", "litellm_params": {"model": "local/pocketsphinx"}}
        ]
        aliases = {"local/pocketsphinx": "pocketsphinx"}
        router: dict[str, Any] = {"model_group_alias": aliases}
        for name, model, variables in _USUAL_MODELS:
            if key := next((key for variable in variables if (key := environment.get(variable))), None):
                models.append({"model_name": name, "litellm_params": {"model": model, "api_key": key}})
        fallbacks = [{model["model_name"]: ["pocketsphinx"]} for model in models[1:]]
        if fallbacks:
            router["fallbacks"] = fallbacks
        if {"whisper-1": ["pocketsphinx"]} not in fallbacks:
            aliases["whisper-1"] = "pocketsphinx"
        written = data.get("router_settings", {})
        data = {**data, "model_list": models}
        data["router_settings"] = {**router, **written} if isinstance(written, dict) else written
    general = data.get("general_settings", {})
    if isinstance(general, dict) and "master_key" not in general and (key := environment.get("LITELLM_MASTER_KEY")):
        data = {**data, "general_settings": {**general, "master_key": key}}
    return data


def _names(data: Any) -> list[str]:
    return [model["model_name"] for model in data["model_list"]]


def _check_ids(root: Node, problems: list[Problem]) -> None:
    """Sees to it that no two deployments have one id: answers and metrics name them by it."""
    first: dict[str, Place] = {}
    for index, entry in enumerate(find(root, ("model_list",))[0].items):
        node, exists = find(entry, ("model_info", "id"))
        if exists and node.text and first.setdefault(node.text, node.place) is not node.place:
            what = f"model_list.{index}.model_info.id: the deployment at {first[node.text]} has the same id"
            problems.append(Problem(node.place, what))


def _check_wildcards(root: Node, problems: list[Problem]) -> None:
    """Sees to it that a `*` stands for one thing: the same text in the name callers ask for and in the model."""
    for index, entry in enumerate(find(root, ("model_list",))[0].items):
        name, model = find(entry, ("model_name",))[0], find(entry, ("litellm_params", "model"))[0]
        stars = {
            "model_name": (name, (name.text or "").count("*")),
            "litellm_params.model": (model, (model.text or "").count("*")),
        }
        for key, (node, count) in stars.items():
            if count > 1:
                what = f"model_list.{index}.{key}: has {count} `*`; one stands for any text, more have no meaning"
                problems.append(Problem(node.place, what))
        counts = [count for _, count in stars.values()]
        if sorted(counts) == [0, 1]:
            have, lack = sorted(stars, key=lambda key: -stars[key][1])
            what = (
                f"model_list.{index}.{have}: has a `*`, and {lack} has none; both need one, which stands for the same"
                " text in both (as in openai/*), or neither"
            )
            problems.append(Problem(stars[have][0].place, what))


def _finished(
    config: GatewayConfig,
    root: Node,
    unusable: Mapping[int, list[Problem]],
    warnings: list[Problem],
) -> GatewayConfig:
    """Gives every deployment its id and what keeps it from being used, and looks at the master key."""
    entries: list[ModelEntry] = []
    seen: Counter[str] = Counter()
    listed = root.map.get("model_list")
    for index, entry in enumerate(config.model_list):
        node = listed.items[index] if listed else root
        found = [*unusable.get(index, ()), *_reasons(index, entry, node)]
        warnings.extend(replace(one, what=f"{one.what}; this deployment is left out") for one in found)
        entries.append(_identified(entry, seen).with_problems(tuple(one.what for one in found)))
    general = config.general_settings
    section = root.map.get("general_settings", root)
    weakness = _weakness(general.master_key)
    if weakness:
        what = f"general_settings.master_key: {weakness}; set a long random one, e.g. from `openssl rand -hex 32`"
        warnings.append(Problem(section.map.get("master_key", section).place, what, loud=True))
    if general.master_key is not None and not general.master_key.get_secret_value():
        general = general.model_copy(update={"master_key": None})
    return config.model_copy(update={"model_list": tuple(entries), "general_settings": general})


def _reasons(index: int, entry: ModelEntry, node: Node) -> list[Problem]:
    """Why a deployment, valid as it is, cannot transcribe."""
    mode = entry.model_info.mode
    if mode is not None and mode not in AUDIO_MODES:
        place = node.map["model_info"].map["mode"].place
        return [Problem(place, f"model_list.{index}.model_info.mode: {quoted(mode)} is not transcription")]
    params = entry.litellm_params
    if params.is_any_provider:
        return []
    try:
        _ = params.provider
    except ValueError as error:
        return [Problem(_place_of_model(node), f"model_list.{index}.litellm_params.model: {error}")]
    return []


def _place_of_model(node: Node) -> Place:
    return node.map.get("litellm_params", node).map.get("model", node).place


def _identified(entry: ModelEntry, seen: Counter[str]) -> ModelEntry:
    """The deployment with an id: its own, or one that stays the same from start to start."""
    if "id" in entry.model_info.model_fields_set:
        return entry
    params = entry.litellm_params
    parts = (entry.model_name, params.custom_llm_provider, params.model, params.api_base, params.api_version)
    text = "\0".join(part or "" for part in parts)
    seen[text] += 1
    identity = hashlib.sha256(f"{text}\0{seen[text]}".encode()).hexdigest()[:24]
    return entry.model_copy(update={"model_info": entry.model_info.model_copy(update={"id": identity})})


def _weakness(key: SecretStr | None) -> str:
    """Why a master key protects nothing, or nothing; never the key."""
    if key is None:
        return ""
    text = key.get_secret_value()
    if not text:
        return "it is empty, so no key is asked for"
    if WEAK_KEYS.fullmatch(text.lower()):
        return "THIS KEY IS WELL KNOWN and opens the gateway to anybody who tries it"
    if len(text) < SHORTEST_KEY:
        return f"THIS KEY IS SHORT, fewer than {SHORTEST_KEY} characters, and can be found by trying"
    return ""
