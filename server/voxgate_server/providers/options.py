"""Which options a caller has set, and what becomes of those a model cannot take: refused by name, or reported.

Every adapter asks `accepted_options` and maps what it returns, so no option is ever lost on the way.
"""

from collections.abc import Collection

from voxgate.transcription.v1.config_pb2 import Include, TranscriptionConfig, TranscriptionTask

from voxgate_server.errors import UnsupportedParameter

__all__ = ["accepted_options", "asked_options", "is_translation", "language_hints", "refused_option"]


def language_hints(config: TranscriptionConfig, *, takes_several: bool) -> tuple[str, list[str]]:
    """The caller's language and its list of possible ones: one hint is one hint, whichever field it came in.

    Args:
        config: What the caller wants.
        takes_several: The provider takes a list.
    """
    language, languages = config.language, list(config.languages)
    if not takes_several and len(languages) == 1 and language in ("", languages[0]):
        return languages[0], []
    return language, languages


def asked_options(config: TranscriptionConfig, *, takes_several_languages: bool = False) -> list[str]:
    """The REST names of the options a caller has set, those of `extra_params` among them.

    Model, format, routing, labels and debugging are no options of a provider's. The task is not among them: who
    cannot translate is left out by the router.
    """
    language, languages = language_hints(config, takes_several=takes_several_languages)
    set_ones = (
        ("language", language),
        ("languages", languages),
        ("prompt", config.prompt),
        ("keywords", config.keywords),
        ("temperature", config.HasField("temperature")),
        ("timestamp_granularities", config.timestamp_granularities),
        ("include", Include.INCLUDE_LOGPROBS in config.include),
        ("chunking_strategy", config.HasField("chunking_strategy")),
        ("known_speaker_names", config.known_speakers),
    )
    return [name for name, value in set_ones if value] + list(config.extra_params.fields)


def accepted_options(
    config: TranscriptionConfig, known: Collection[str], *, dropped: list[str] | None, who: str
) -> list[str]:
    """The options to be mapped, by their REST names, in a fixed order.

    Args:
        config: What the caller wants.
        known: REST names the model takes, names of permitted extra parameters among them.
        dropped: Takes the names of those it cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for.
    """
    accepted = []
    for option in asked_options(config, takes_several_languages="languages" in known):
        if option in known:
            accepted.append(option)
        elif dropped is None:
            raise refused_option(who, option, known, extra=option in config.extra_params.fields)
        else:
            dropped.append(option)
    return accepted


def refused_option(who: str, option: str, known: Collection[str], *, extra: bool = False) -> UnsupportedParameter:
    """The refusal of an option.

    Args:
        who: The deployment or model.
        option: Its REST name.
        known: What it takes instead.
        extra: It is one of `extra_params`.
    """
    if extra:
        what = (
            f"{who} is not configured to take '{option[:64]}' from callers. Leave it out, or ask the operator to allow "
            "it for this deployment."
        )
    else:
        what = (
            f"{who} cannot take '{option}'; it takes {', '.join(sorted(known)) or 'no options'}. Leave it out, choose "
            "another model, or ask the operator for drop_params."
        )
    return UnsupportedParameter(what, param=option, metadata={"parameter": option})


def is_translation(config: TranscriptionConfig) -> bool:
    """Whether the caller wants a translation into English."""
    return config.task == TranscriptionTask.TRANSCRIPTION_TASK_TRANSLATE
