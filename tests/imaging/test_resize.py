"""The resize in the graph is the resize of the host, byte for byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classkinfy_export import resampling
from classkinfy_export.data.synthetic import lesion
from classkinfy_export.imaging.resize import Resize

CAPTURE = (450, 600)
SIZES = ((224, 224), (240, 240), (260, 260), (300, 300), (450, 300), (224, 600), (700, 900))


def in_graph(
    image: npt.NDArray[np.uint8], size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> npt.NDArray[np.generic]:
    module = Resize(image.shape[:2], size).to(dtype)
    resized = module(torch.from_numpy(image).permute(2, 0, 1)[None].to(dtype))
    return resized[0].permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def pictures() -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return {
        "lesion": lesion("nv", 2, hair=1.0).image,
        "noise": rng.integers(0, 256, (*CAPTURE, 3), np.uint8),
        "bits": (rng.integers(0, 2, (*CAPTURE, 3)) * 255).astype(np.uint8),
        "white": np.full((*CAPTURE, 3), 255, np.uint8),
    }


@pytest.mark.parametrize("size", SIZES)
def test_module_gives_the_hosts_bytes(
    pictures: dict[str, npt.NDArray[np.uint8]], size: tuple[int, int]
) -> None:
    for name, image in pictures.items():
        wanted = resampling.resize(image, *size)
        np.testing.assert_array_equal(in_graph(image, size), wanted, err_msg=name)


side = st.integers(1, 40)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(in_size=st.tuples(side, side), out_size=st.tuples(side, side), seed=st.integers(0, 9))
def test_module_gives_the_hosts_bytes_at_any_sizes(
    in_size: tuple[int, int], out_size: tuple[int, int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*in_size, 3), np.uint8)
    wanted = resampling.resize(image, *out_size)
    np.testing.assert_array_equal(in_graph(image, out_size), wanted)


@pytest.mark.parametrize("size", SIZES)
def test_float64_changes_no_byte(
    pictures: dict[str, npt.NDArray[np.uint8]], size: tuple[int, int]
) -> None:
    for name, image in pictures.items():
        wide = in_graph(image, size, torch.float64)
        np.testing.assert_array_equal(in_graph(image, size), wide, err_msg=name)


def test_the_order_of_summation_changes_no_bit(pictures: dict[str, npt.NDArray[np.uint8]]) -> None:
    across = torch.from_numpy(resampling.matrix(CAPTURE[1], 224)).T
    for seed, image in enumerate(pictures.values()):
        rows = torch.from_numpy(image[..., 0]).float()
        order = torch.randperm(CAPTURE[1], generator=torch.Generator().manual_seed(seed))
        assert torch.equal(rows @ across, rows[:, order] @ across[order])


def test_weights_are_no_part_of_a_checkpoint() -> None:
    assert Resize(CAPTURE, (224, 224)).state_dict() == {}


def test_nothing_on_the_way_leaves_half_precisions_range(
    pictures: dict[str, npt.NDArray[np.uint8]],
) -> None:
    module = Resize(CAPTURE, (240, 240))
    given = torch.from_numpy(pictures["white"]).permute(2, 0, 1)[None].float()
    program = torch.export.export(module, (given,)).run_decompositions()
    reached: list[float] = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                reached.append(float(value.abs().max()))
            return value

    Recorder(program.module()).run(given)
    assert len(reached) > 20
    assert max(reached) == 255.5
