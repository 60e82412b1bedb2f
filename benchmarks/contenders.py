"""Models of one network: this toolkit's, and what the stock tools make of it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnx
import torch
from ai_edge_quantizer import recipe as stock_recipes
from ai_edge_quantizer.quantizer import Quantizer
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from classkinfy_export.contract import FormatName, StageSpec, TensorSpec
from classkinfy_export.formats.litert import conversion
from classkinfy_export.formats.litert import offset as litert_offset
from classkinfy_export.formats.litert import quantize as litert_static
from classkinfy_export.formats.onnx import graph
from classkinfy_export.formats.onnx import offset as onnx_offset
from classkinfy_export.formats.onnx import quantize as onnx_static
from classkinfy_export.formats.onnx import weights as onnx_weights
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.precision import Precision, float_excitation
from classkinfy_export.quantization.blocks import has_excitation
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.preparation import Embedding, mean_embedding
from classkinfy_export.recipes import Blocks
from classkinfy_export.stages.network import Network

Floats = npt.NDArray[np.float32]
OURS = "classkinfy"
OPSET = 18


class Alone(nn.Module):
    """A network by itself, as a stage."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor) -> dict[str, Tensor]:
        """Give the logits of float32 [1, 3, s, s], 0..255."""
        return {"logits": self.network(levels)}


class Name(NamedTuple):
    """What made a model, of what kind, and what runs it."""

    tool: str
    kind: str
    runtime: str


@dataclass(frozen=True)
class Subject:
    """A network, what goes in, and how its logits decide."""

    stage: str
    network: Network
    rounded: Network
    trained: Network | None
    """For int8, and rounded then; None where the recipe asks for none."""
    pixels: tuple[float, float]
    blocks: Mapping[FormatName, Blocks]
    calibration: Sequence[Floats]
    levels: Sequence[Floats]
    decide: Callable[[Floats], Floats]
    """Logits [n, outputs] of the test photos, in order, to probabilities."""

    @property
    def spec(self) -> StageSpec:
        """As the exporters need it."""
        side = self.network.spec.input_size
        levels = TensorSpec(name="levels", dtype="float32", shape=(1, 3, side, side), unit="levels")
        shape = (1, self.network.spec.outputs)
        logits = TensorSpec(name="logits", dtype="float32", shape=shape, unit="")
        return StageSpec(name=self.stage, kind="classify", inputs=(levels,), outputs=(logits,))

    def feeds(self) -> list[dict[str, Floats]]:
        """Inputs to calibrate on."""
        return [{"levels": levels} for levels in self.calibration]

    def embedding(self, feeds: Feeds) -> Embedding:
        """Return the mean of what the network pools of photos."""
        levels = (torch.from_numpy(feed["levels"]) for feed in feeds.few)
        return mean_embedding(self.network, levels)


def models(subject: Subject) -> Iterator[tuple[Name, bytes]]:
    """Make every model of a network, fp32 of each runtime first."""
    plain = graph.export(Alone(subject.network), subject.spec, OPSET)
    flat = conversion.convert(Alone(subject.network), subject.spec)
    yield Name(OURS, "fp32", "onnxruntime"), plain.SerializeToString()
    yield Name(OURS, "fp32", "litert"), flat
    yield from ours(subject)
    yield from of_onnxruntime(subject, plain)
    yield from of_ai_edge_quantizer(subject, flat)
    if importlib.util.find_spec("nncf") is not None:
        yield from of_nncf(subject, plain)


def ours(subject: Subject) -> Iterator[tuple[Name, bytes]]:
    """Make this toolkit's models."""
    yield from _ours(subject, subject.rounded, "", light=True)
    if subject.trained is not None:
        yield from _ours(subject, subject.trained, ", qat", light=False)


def _ours(
    subject: Subject, network: Network, how: str, *, light: bool
) -> Iterator[tuple[Name, bytes]]:
    alone = Alone(network)
    ready = graph.export(alone, subject.spec, OPSET)
    flat = conversion.convert(alone, subject.spec)
    if light:
        only: Precision = "weight_only_wi8_afp32"
        yield Name(OURS, only, "onnxruntime"), onnx_weights.keep(ready, only).SerializeToString()
    feeds = Feeds(subject.feeds())
    seen = onnx_static.observe(ready, feeds)
    embedding = subject.embedding(feeds)
    statics: tuple[Precision, ...] = ("static_wi8_ai8",)
    if has_excitation(network):
        statics = ("static_wi8_ai8_se_fp32", *statics)
    for static in statics:
        for kind, settings in _rungs(static, how, subject.blocks["onnx"]):
            model, _ = onnx_static.quantize(ready, seen, subject.pixels, **settings)
            onnx_offset.correct(model, embedding, feeds.few)
            yield Name(OURS, kind, "onnxruntime"), model.SerializeToString()
        for kind, settings in _rungs(static, how, subject.blocks["litert"]):
            data, _ = litert_static.quantize(flat, feeds, subject.pixels, **settings)
            data = litert_offset.correct(data, embedding, feeds)
            yield Name(OURS, kind, "litert"), data


def _rungs(static: Precision, how: str, floats: Blocks) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a precision all in int8, and as the recipe has it: its name and its settings."""
    for blocks in dict.fromkeys(((), floats)):
        kind = ", ".join((static + how, *(f"{block} float" for block in blocks)))
        yield kind, {"float_excitation": float_excitation(static), "float_blocks": blocks}


def of_onnxruntime(subject: Subject, model: onnx.ModelProto) -> Iterator[tuple[Name, bytes]]:
    """Make what ``quantize_static`` makes after its pre-processing, by default and better."""
    for kind, settings in (
        ("static", {}),
        ("static QUInt8", {"activation_type": QuantType.QUInt8}),
        ("static QUInt8, per channel", {"activation_type": QuantType.QUInt8, "per_channel": True}),
    ):
        with tempfile.TemporaryDirectory() as folder, quiet():
            plain, ready, made = (Path(folder) / f"{name}.onnx" for name in "abc")
            onnx.save_model(model, plain)
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
            quantize_static(ready, made, _Reader(subject.feeds()), **settings)
            yield Name("onnxruntime", kind, "onnxruntime"), made.read_bytes()


def of_ai_edge_quantizer(subject: Subject, model: bytes) -> Iterator[tuple[Name, bytes]]:
    """Make what its own recipes make."""
    for kind, recipe in (
        ("static", stock_recipes.static_wi8_ai8()),
        ("dynamic", stock_recipes.dynamic_wi8_afp32()),
        ("weight-only", stock_recipes.weight_only_wi8_afp32()),
    ):
        with quiet():
            quantizer = Quantizer(bytearray(model), recipe)
            seen = None
            if quantizer.need_calibration:
                seen = quantizer.calibrate({subject.stage: subject.feeds()})
            made = quantizer.quantize(seen).quantized_model
        assert made is not None
        yield Name("ai-edge-quantizer", kind, "litert"), bytes(made)


def of_nncf(subject: Subject, model: onnx.ModelProto) -> Iterator[tuple[Name, bytes]]:
    """Make what its post-training quantisation makes, by both of its presets."""
    import nncf  # type: ignore[import-not-found, unused-ignore]

    for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED):
        with quiet():
            dataset = nncf.Dataset(subject.feeds())
            size = len(subject.calibration)
            made = nncf.quantize(model, dataset, preset=preset, subset_size=size)
        yield Name("nncf", f"static, {preset.value}", "onnxruntime"), made.SerializeToString()


class _Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    def __init__(self, feeds: Iterable[Mapping[str, Floats]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, Floats] | None:  # type: ignore[override, unused-ignore]
        return next(self._feeds, None)
