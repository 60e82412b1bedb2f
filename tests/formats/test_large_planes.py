"""int8 of planes of many pixels: means that float takes in two steps, and padding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from embedding import Embedding, spec

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.data import synthetic
from classkinfy_export.formats.litert import conversion, networks
from classkinfy_export.formats.litert import quantize as litert_static
from classkinfy_export.formats.onnx import graph
from classkinfy_export.formats.onnx import quantize as onnx_static
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.folding import fold, input_range
from classkinfy_export.stages.network import Network

SIDE = 160
FLOAT_STEPS = "blocks.2"


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    settings = NetworkSpec(architecture="efficientnet_b0", input_size=SIDE, outputs=7)
    return fold(Network(settings).eval())


@pytest.fixture(scope="module")
def feeds() -> list[dict[str, np.ndarray]]:
    drawn = [synthetic.lesion(dx, 1, height=SIDE, width=SIDE).image for dx in ("nv", "mel")]
    return [{"levels": i.transpose(2, 0, 1)[None].astype(np.float32)} for i in drawn]


@pytest.mark.parametrize("excitation", [True, False])
def test_a_mean_in_two_steps_is_one_on_integers_and_stays_two_in_float(
    network: Network, feeds: list[dict[str, np.ndarray]], excitation: bool
) -> None:
    model = graph.export(Embedding(network), spec(network), 18)
    before = _kinds(model)
    seen = onnx_static.observe(model, Feeds(feeds))
    coded, _ = onnx_static.quantize(
        model,
        seen,
        input_range(network),
        float_excitation=excitation,
        float_blocks=("conv_stem", "blocks.0", FLOAT_STEPS),
    )
    makers = {node.output[0]: node for node in coded.graph.node}
    found: dict[str, list[str]] = {}
    for node in coded.graph.node:
        if node.op_type == "Conv" and ".se.conv_reduce.weight" in node.input[1]:
            steps = [makers[node.input[0]]]
            while steps[-1].op_type in ("DequantizeLinear", "QuantizeLinear", "ReduceMean"):
                steps.append(makers[steps[-1].input[0]])
            name = node.input[1].partition(".backbone.")[2].partition(".se.")[0]
            found[name] = [step.op_type for step in steps]
    # Planes of 80, 80, 40, 40, 20, … pixels a side; beyond 512 pixels a mean has two steps.
    assert _kinds(model) == before, "the graph that is given stays as it is"
    for name in ("blocks.0.0", f"{FLOAT_STEPS}.0"):
        assert found[name][-1] == "Mul"
        assert "GlobalAveragePool" not in found[name]
    assert found["blocks.0.0"].count("ReduceMean") == 2
    for name in ("blocks.1.0", "blocks.1.1", "blocks.4.0"):
        assert found[name] == ["DequantizeLinear", "QuantizeLinear", "GlobalAveragePool"]


def _kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_padding_keeps_the_range_of_what_it_pads(
    network: Network, feeds: list[dict[str, np.ndarray]]
) -> None:
    flat = conversion.convert(Embedding(network), spec(network))
    _, ranges = litert_static.quantize(flat, Feeds(feeds), input_range(network))
    padded = networks.find(flat, float_excitation=False, float_blocks=()).padded
    assert padded
    for given, of in padded.items():
        assert ranges[f"classify/{given}"] == ranges[f"classify/{of}"]
