"""Which tag Google's Speech-to-Text v2 has for a language.

Google wants a language with its region (`de-DE`), callers mostly give the language alone (`de`). The table has, for
every language Google's page of the model `chirp_3` lists, the region that is listed as generally available or, where
there are several, the one LiteLLM takes; https://docs.cloud.google.com/speech-to-text/docs/models/chirp-3.
"""

import re

__all__ = ["LANGUAGES", "google_tag"]

LANGUAGES = {
    "af": "af-ZA", "ar": "ar-SA", "as": "as-IN", "ast": "ast-ES", "az": "az-AZ", "bg": "bg-BG", "bn": "bn-IN",
    "ca": "ca-ES", "cmn": "cmn-Hans-CN", "cs": "cs-CZ", "cy": "cy-GB", "da": "da-DK", "de": "de-DE", "el": "el-GR",
    "en": "en-US", "es": "es-ES", "et": "et-EE", "eu": "eu-ES", "fa": "fa-IR", "fi": "fi-FI", "fil": "fil-PH",
    "fr": "fr-FR", "gl": "gl-ES", "gu": "gu-IN", "ha": "ha-NG", "he": "iw-IL", "hi": "hi-IN", "hr": "hr-HR",
    "hu": "hu-HU", "hy": "hy-AM", "id": "id-ID", "is": "is-IS", "it": "it-IT", "iw": "iw-IL", "ja": "ja-JP",
    "jv": "jv-ID", "ka": "ka-GE", "kk": "kk-KZ", "km": "km-KH", "kn": "kn-IN", "ko": "ko-KR", "ky": "ky-KG",
    "lb": "lb-LU", "lo": "lo-LA", "lt": "lt-LT", "lv": "lv-LV", "mi": "mi-NZ", "mk": "mk-MK", "ml": "ml-IN",
    "mn": "mn-MN", "mr": "mr-IN", "ms": "ms-MY", "mt": "mt-MT", "my": "my-MM", "nb": "no-NO", "ne": "ne-NP",
    "nl": "nl-NL", "no": "no-NO", "nso": "nso-ZA", "or": "or-IN", "pa": "pa-Guru-IN", "pl": "pl-PL", "pt": "pt-BR",
    "ro": "ro-RO", "ru": "ru-RU", "sk": "sk-SK", "sl": "sl-SI", "sr": "sr-RS", "sv": "sv-SE", "sw": "sw-KE",
    "ta": "ta-IN", "te": "te-IN", "th": "th-TH", "tl": "fil-PH", "tr": "tr-TR", "uk": "uk-UA", "uz": "uz-UZ",
    "vi": "vi-VN", "wo": "wo-SN", "xh": "xh-ZA", "yo": "yo-NG", "yue": "yue-Hant-HK", "zh": "cmn-Hans-CN",
    "zu": "zu-ZA",
}  # fmt: skip
"""Google's tags by ISO 639 code."""

_OTHER_TAGS = {
    "zh-cn": "cmn-Hans-CN",
    "zh-hans": "cmn-Hans-CN",
    "zh-hans-cn": "cmn-Hans-CN",
    "cmn-cn": "cmn-Hans-CN",
    "zh-tw": "cmn-Hant-TW",
    "zh-hant": "cmn-Hant-TW",
    "zh-hant-tw": "cmn-Hant-TW",
    "cmn-tw": "cmn-Hant-TW",
    "zh-hk": "yue-Hant-HK",
    "zh-hant-hk": "yue-Hant-HK",
    "yue-hk": "yue-Hant-HK",
    "he-il": "iw-IL",
    "nb-no": "no-NO",
    "pa-in": "pa-Guru-IN",
    "tl-ph": "fil-PH",
}
"""Google's own spelling of tags that others write differently."""
_TAG = re.compile(r"[a-z]{2,3}(-[a-z]{4})?-([a-z]{2}|\d{3}|x-[a-z]{1,8})")


def google_tag(language: str) -> str | None:
    """Google's tag for a language; None when the language is not in the table and has no region.

    Args:
        language: ISO 639 code or BCP 47 tag, in any case; `_` counts as `-`. A tag with a region is kept: whether
            the model has it is Google's to say.
    """
    tag = language.strip().lower().replace("_", "-")
    if (known := LANGUAGES.get(tag) or _OTHER_TAGS.get(tag)) is not None:
        return known
    if not _TAG.fullmatch(tag):
        return None
    first, *rest = tag.split("-")
    if "x" in rest:
        return tag
    return "-".join([first, *(part.title() if len(part) == 4 else part.upper() for part in rest)])
