"""A Whisper model with random weights: the real format with everything in it, in 4 MB. It hears nonsense."""

from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import whisper_spec
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from voxgate_server.providers.local.whisper import _LANGUAGES

_DEPTH, _HEADS, _MELS, _FRAMES, _LENGTH = 16, 2, 80, 1500, 448
_MULTILINGUAL = 51_866
"""Tokens of the models that know a hundred languages; one of them is empty, by which CTranslate2 tells them."""


def _vocabulary(*, english: bool) -> tuple[list[str], list[str]]:
    """Words, then special tokens, in the order of Whisper's own."""
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGES)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>", *(f"<|{0.02 * number:.2f}|>" for number in range(1501))]
    count = 100 if english else _MULTILINGUAL - len(special)
    words = [f"Ġword{number}" for number in range(count)]
    return words if english else [*words[:-1], ""], special


def make_tiny_whisper(directory: Path, *, english: bool = False) -> Path:
    """Writes one.

    Args:
        directory: Where to; made if need be.
        english: It knows no other language.
    """
    directory.mkdir(parents=True, exist_ok=True)
    words, special = _vocabulary(english=english)
    tokens = words + special
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(directory / "tokenizer.json"))

    random = np.random.default_rng(7)

    def weights(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    def linear(spec, out: int, width: int) -> None:
        spec.weight, spec.bias = weights(out, width), weights(out)

    def norm(spec) -> None:
        spec.gamma, spec.beta = np.ones(_DEPTH, np.float32), np.zeros(_DEPTH, np.float32)

    def layer(spec) -> None:
        norm(spec.self_attention.layer_norm)
        linear(spec.self_attention.linear[0], 3 * _DEPTH, _DEPTH)
        linear(spec.self_attention.linear[1], _DEPTH, _DEPTH)
        norm(spec.ffn.layer_norm)
        linear(spec.ffn.linear_0, 4 * _DEPTH, _DEPTH)
        linear(spec.ffn.linear_1, _DEPTH, 4 * _DEPTH)

    spec = whisper_spec.WhisperSpec(1, _HEADS, 1, _HEADS)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(_DEPTH, _MELS, 3), weights(_DEPTH)
    encoder.conv2.weight, encoder.conv2.bias = weights(_DEPTH, _DEPTH, 3), weights(_DEPTH)
    encoder.position_encodings.encodings = weights(_FRAMES, _DEPTH)
    norm(encoder.layer_norm)
    layer(encoder.layer[0])
    decoder.embeddings.weight = weights(len(tokens), _DEPTH)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.position_encodings.encodings = weights(_LENGTH, _DEPTH)
    norm(decoder.layer_norm)
    layer(decoder.layer[0])
    attention = decoder.layer[0].attention
    norm(attention.layer_norm)
    for number, factor in enumerate((1, 2, 1)):
        linear(attention.linear[number], factor * _DEPTH, _DEPTH)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.alignment_heads = [(0, 0)]
    spec.config.lang_ids = [numbers[f"<|{code}|>"] for code in _LANGUAGES]
    spec.validate()
    spec.save(str(directory))
    assert ctranslate2.contains_model(str(directory))
    return directory
