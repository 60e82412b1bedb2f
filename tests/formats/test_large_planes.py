"""int8 of planes of many pixels: means that float takes in two steps, and padding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from classkinfy_export.contract import NetworkSpec, StageSpec, TensorSpec
from classkinfy_export.data import synthetic
from classkinfy_export.formats.litert import networks, signatures
from classkinfy_export.formats.litert import quantize as litert_static
from classkinfy_export.formats.onnx import graph
from classkinfy_export.formats.onnx import quantize as onnx_static
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.folding import fold, input_range
from classkinfy_export.stages.network import Network

SIDE = 160
FLOAT_STEPS = "blocks.2"


class Alone(nn.Module):
    """A network as a stage."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor) -> dict[str, Tensor]:
        """Run float32 [1, 3, s, s]."""
        return {"embedding": self.network.embed(levels)}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    spec = NetworkSpec(architecture="efficientnet_b0", input_size=SIDE, outputs=7)
    return fold(Network(spec).eval())


@pytest.fixture(scope="module")
def spec(network: Network) -> StageSpec:
    levels = TensorSpec(name="levels", dtype="float32", shape=(1, 3, SIDE, SIDE), unit="levels")
    shape = (1, network.embedding_width)
    given = TensorSpec(name="embedding", dtype="float32", shape=shape, unit="")
    return StageSpec(name="classify", kind="classify", inputs=(levels,), outputs=(given,))


@pytest.fixture(scope="module")
def feeds() -> list[dict[str, np.ndarray]]:
    drawn = [synthetic.lesion(dx, 1, height=SIDE, width=SIDE).image for dx in ("nv", "mel")]
    return [{"levels": i.transpose(2, 0, 1)[None].astype(np.float32)} for i in drawn]


@pytest.mark.parametrize("excitation", [True, False])
def test_a_mean_in_two_steps_is_one_on_integers_and_stays_two_in_float(
    network: Network, spec: StageSpec, feeds: list[dict[str, np.ndarray]], excitation: bool
) -> None:
    model = graph.export(Alone(network), spec, 18)
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


def test_attention_that_does_not_squeeze_and_excite_stays_float_with_its_mean() -> None:
    torch.manual_seed(0)
    settings = NetworkSpec(architecture="ecaresnet26t", input_size=64, outputs=7)
    other = fold(Network(settings).eval())
    levels = TensorSpec(name="levels", dtype="float32", shape=(1, 3, 64, 64), unit="levels")
    given = TensorSpec(name="embedding", dtype="float32", shape=(1, other.embedding_width), unit="")
    stage = StageSpec(name="classify", kind="classify", inputs=(levels,), outputs=(given,))
    photo = {"levels": np.full((1, 3, 64, 64), 99.0, np.float32)}
    model = graph.export(Alone(other), stage, 18)
    seen = onnx_static.observe(model, Feeds([photo]))
    coded, _ = onnx_static.quantize(model, seen, input_range(other), float_excitation=True)
    left = onnx_static.floats(coded)
    assert left
    assert all(".se." in module for module in left)
    assert "GlobalAveragePool" not in _kinds(coded)


def test_padding_keeps_the_range_of_what_it_pads(
    network: Network, spec: StageSpec, feeds: list[dict[str, np.ndarray]]
) -> None:
    flat = signatures.convert({"classify": (Alone(network), spec)})
    _, ranges = litert_static.quantize(
        flat, {"classify": Feeds(feeds)}, {"classify": input_range(network)}
    )
    padded = networks.find(flat, float_excitation=False, float_blocks=())["classify"].padded
    assert padded
    for given, of in padded.items():
        assert ranges[f"classify/{given}"] == ranges[f"classify/{of}"]
