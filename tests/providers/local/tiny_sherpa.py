"""Models for sherpa-onnx with random weights: the real forms, in a few kilobytes. They hear nonsense."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TOKENS, _WIDTH = 40, 16
_FLOAT, _INT32, _INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class _Model:
    """One ONNX file in the making."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, list(inputs), list(outputs), **attributes))

    def constant(self, name: str, value: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, name: str, *shape: int) -> str:
        return self.constant(name, (self._random.standard_normal(shape) * 0.3).astype(np.float32))

    def every_fourth(self, source: str, target: str) -> None:
        ends = {"begin": 0, "end": 2**31 - 1, "axis": 1, "step": 4}
        self.node("Slice", [source, *(self.constant(name, np.array([at])) for name, at in ends.items())], [target])

    def fourth(self, source: str, target: str) -> None:
        self.node("Add", [source, self.constant("three", np.array([3]))], ["more"])
        self.node("Div", ["more", self.constant("four", np.array([4]))], [target])

    def save(
        self,
        file: Path,
        inputs: Mapping[str, tuple[int, list[Any]]],
        outputs: Mapping[str, tuple[int, list[Any]]],
        **metadata: object,
    ) -> None:
        values = [
            [helper.make_tensor_value_info(name, *form) for name, form in side.items()] for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "tiny", *values, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=str(value))
        onnx.checker.check_model(model)
        onnx.save(model, file)


def make_tiny_sherpa(directory: Path, model_type: str) -> Path:
    """Writes one of the types that the adapter knows."""
    directory.mkdir(parents=True, exist_ok=True)
    words = [("" if number % 3 == 0 else "▁") + f"t{number}" for number in range(_TOKENS - 1)]
    words = [*words, "<blk>"] if model_type.startswith("nemo") else ["<blk>", *words]
    (directory / "tokens.txt").write_text("".join(f"{word} {number}\n" for number, word in enumerate(words)))
    {
        "transducer": _transducer,
        "nemo_transducer": _nemo_transducer,
        "nemo_ctc": _nemo_ctc,
        "zipformer_ctc": _zipformer_ctc,
    }[model_type](directory)
    return directory


def _zipformer_ctc(directory: Path) -> None:
    model = _Model(1)
    model.every_fourth("x", "fewer")
    model.node("MatMul", ["fewer", model.weights("W", 80, _TOKENS)], ["logits"])
    model.node("LogSoftmax", ["logits"], ["log_probs"], axis=-1)
    model.fourth("x_lens", "log_probs_len")
    model.save(
        directory / "model.onnx",
        {"x": (_FLOAT, ["N", "T", 80]), "x_lens": (_INT64, ["N"])},
        {"log_probs": (_FLOAT, ["N", "S", _TOKENS]), "log_probs_len": (_INT64, ["N"])},
        model_type="zipformer2_ctc", version=1,
    )  # fmt: skip


def _nemo_ctc(directory: Path) -> None:
    model = _Model(2)
    model.node("Transpose", ["audio_signal"], ["x"], perm=[0, 2, 1])
    model.every_fourth("x", "fewer")
    model.node("MatMul", ["fewer", model.weights("W", 80, _TOKENS)], ["logits"])
    model.node("LogSoftmax", ["logits"], ["logprobs"], axis=-1)
    model.save(
        directory / "model.onnx",
        {"audio_signal": (_FLOAT, ["N", 80, "T"]), "length": (_INT64, ["N"])},
        {"logprobs": (_FLOAT, ["N", "S", _TOKENS])},
        model_type="EncDecCTCModelBPE", vocab_size=_TOKENS - 1, subsampling_factor=4, normalize_type="per_feature",
    )  # fmt: skip


def _transducer(directory: Path) -> None:
    encoder = _Model(3)
    encoder.every_fourth("x", "fewer")
    encoder.node("MatMul", ["fewer", encoder.weights("W", 80, _WIDTH)], ["encoder_out"])
    encoder.fourth("x_lens", "encoder_out_lens")
    encoder.save(
        directory / "encoder-epoch-1.onnx",
        {"x": (_FLOAT, ["N", "T", 80]), "x_lens": (_INT64, ["N"])},
        {"encoder_out": (_FLOAT, ["N", "S", _WIDTH]), "encoder_out_lens": (_INT64, ["N"])},
        model_type="zipformer2", version=1,
    )  # fmt: skip
    decoder = _Model(4)
    decoder.node("Gather", [decoder.weights("E", _TOKENS, _WIDTH), "y"], ["embedded"])
    decoder.node("ReduceMean", ["embedded"], ["decoder_out"], axes=[1], keepdims=0)
    decoder.save(
        directory / "decoder-epoch-1.onnx",
        {"y": (_INT64, ["N", 2])}, {"decoder_out": (_FLOAT, ["N", _WIDTH])}, context_size=2, vocab_size=_TOKENS,
    )  # fmt: skip
    joiner = _Model(5)
    joiner.node("Add", ["encoder_out", "decoder_out"], ["both"])
    joiner.node("MatMul", ["both", joiner.weights("J", _WIDTH, _TOKENS)], ["logit"])
    joiner.save(
        directory / "joiner-epoch-1.onnx",
        {"encoder_out": (_FLOAT, ["N", _WIDTH]), "decoder_out": (_FLOAT, ["N", _WIDTH])},
        {"logit": (_FLOAT, ["N", _TOKENS])}, joiner_dim=_WIDTH,
    )  # fmt: skip


def _nemo_transducer(directory: Path) -> None:
    encoder = _Model(6)
    encoder.node("Transpose", ["audio_signal"], ["x"], perm=[0, 2, 1])
    encoder.every_fourth("x", "fewer")
    encoder.node("MatMul", ["fewer", encoder.weights("W", 80, _WIDTH)], ["encoded"])
    encoder.node("Transpose", ["encoded"], ["outputs"], perm=[0, 2, 1])
    encoder.fourth("length", "encoded_lengths")
    encoder.save(
        directory / "encoder.onnx",
        {"audio_signal": (_FLOAT, ["N", 80, "T"]), "length": (_INT64, ["N"])},
        {"outputs": (_FLOAT, ["N", _WIDTH, "S"]), "encoded_lengths": (_INT64, ["N"])},
        model_type="EncDecRNNTBPEModel", vocab_size=_TOKENS - 1, subsampling_factor=4, normalize_type="per_feature",
        pred_rnn_layers=1, pred_hidden=_WIDTH, feat_dim=80,
    )  # fmt: skip
    decoder, state = _Model(7), (_FLOAT, [1, "N", _WIDTH])
    decoder.node("Gather", [decoder.weights("E", _TOKENS, _WIDTH), "targets"], ["embedded"])
    decoder.node("Transpose", ["embedded"], ["outputs"], perm=[0, 2, 1])
    for source, target in (("target_length", "lengths"), ("state.1", "next.1"), ("state.2", "next.2")):
        decoder.node("Identity", [source], [target])
    decoder.save(
        directory / "decoder.onnx",
        {"targets": (_INT32, ["N", "U"]), "target_length": (_INT32, ["N"]), "state.1": state, "state.2": state},
        {"outputs": (_FLOAT, ["N", _WIDTH, "U"]), "lengths": (_INT32, ["N"]), "next.1": state, "next.2": state},
    )
    joiner = _Model(8)
    joiner.node("Add", ["encoder_outputs", "decoder_outputs"], ["both"])
    joiner.node("Transpose", ["both"], ["rows"], perm=[0, 2, 1])
    joiner.node("MatMul", ["rows", joiner.weights("J", _WIDTH, _TOKENS)], ["logits"])
    joiner.node("Unsqueeze", ["logits", joiner.constant("axes", np.array([1]))], ["outputs"])
    joiner.save(
        directory / "joiner.onnx",
        {"encoder_outputs": (_FLOAT, ["N", _WIDTH, 1]), "decoder_outputs": (_FLOAT, ["N", _WIDTH, 1])},
        {"outputs": (_FLOAT, ["N", 1, 1, _TOKENS])},
    )
