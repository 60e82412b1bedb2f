"""Models of one network as other tools make them, each by its own documentation.

    python benchmarks/peer_models.py TOOL FOLDER

Runs in an environment of the tool's own, and imports nothing of this toolkit. FOLDER holds
``network.pt2`` (torch.export), ``network.onnx`` and ``calibration.npy`` (float32 [n, 3, s, s],
normalised); the model is written beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

_FEW = 128
"""Photos that are calibrated on, where a tool calibrates."""


def onnxruntime_int8(folder: Path) -> None:
    """Quantise by ``quantize_static``, with what its documentation advises for x86."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.feeds = iter({"input": photo} for photo in photos(folder))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    ready = folder / "ready.onnx"
    quant_pre_process(folder / "network.onnx", ready, skip_symbolic_shape=True)
    quantize_static(
        ready, folder / "onnxruntime_int8.onnx", Reader(), activation_type=QuantType.QUInt8
    )


def litert(folder: Path) -> None:
    """Convert by ``litert_torch.convert``."""
    import litert_torch
    import torch

    network = torch.export.load(folder / "network.pt2").module()
    made = litert_torch.convert(network, (torch.from_numpy(photos(folder)[0]),))
    made.export(str(folder / "litert.tflite"))


def litert_int8(folder: Path) -> None:
    """Quantise what ``litert`` made by ai-edge-quantizer's static recipe."""
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(str(folder / "litert.tflite"), recipe.static_wi8_ai8())
    details = [{"args_0": photo} for photo in photos(folder)]
    seen = quantizer.calibrate({"serving_default": details})
    made = quantizer.quantize(seen).quantized_model
    assert made is not None
    (folder / "litert_int8.tflite").write_bytes(bytes(made))


def onnx2tf(folder: Path) -> None:
    """Convert to float."""
    _sample(folder)
    call("onnx2tf", "-i", "network.onnx", "-o", "onnx2tf_float", folder=folder)
    (folder / "onnx2tf_float/network_float32.tflite").rename(folder / "onnx2tf.tflite")


def onnx2tf_int8(folder: Path) -> None:
    """Convert to static int8."""
    _sample(folder)
    np.save(folder / "onnx2tf.npy", np.concatenate(photos(folder)).transpose(0, 2, 3, 1))
    kept = ["-cind", "input", "onnx2tf.npy", "[[[[0,0,0]]]]", "[[[[1,1,1]]]]"]
    call("onnx2tf", "-i", "network.onnx", "-o", "onnx2tf", "-oiqt", *kept, folder=folder)
    whole = folder / "onnx2tf/network_full_integer_quant_with_float32_io.tflite"
    half = folder / "onnx2tf/network_integer_quant.tflite"
    (whole if whole.exists() else half).rename(folder / "onnx2tf_int8.tflite")


def _sample(folder: Path) -> None:
    """Put photos where onnx2tf looks for its own, which it would download: it compares on them."""
    corner = np.concatenate(photos(folder)[:20])[:, :, :128, :128].transpose(0, 2, 3, 1)
    np.save(folder / "calibration_image_sample_data_20x128x128x3_float32.npy", corner / 2 + 0.5)


def executorch(folder: Path) -> None:
    """Lower to XNNPACK."""
    import torch

    _lower(torch.export.load(folder / "network.pt2"), folder / "executorch.pte")


def executorch_int8(folder: Path) -> None:
    """Quantise by XNNPACK's quantizer, per channel, and lower; observers take seconds a photo."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    inputs = photos(folder)[:32]
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.load(folder / "network.pt2").module(), quantizer)
    with torch.no_grad():
        for photo in inputs:
            prepared(torch.from_numpy(photo))
    converted = convert_pt2e(prepared)
    exported = torch.export.export(converted, (torch.from_numpy(inputs[0]),))
    _lower(exported, folder / "executorch_int8.pte")


def _lower(exported: object, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)


def ncnn(folder: Path) -> None:
    """Convert by pnnx."""
    shape = ",".join(map(str, photos(folder)[0].shape))
    call("pnnx", "network.onnx", f"inputshape=[{shape}]f32", folder=folder)
    for kind in ("param", "bin"):
        (folder / f"network.ncnn.{kind}").rename(folder / f"ncnn.{kind}")


def mnn(folder: Path) -> None:
    """Convert by mnnconvert."""
    convert = ("mnnconvert", "-f", "ONNX", "--modelFile", folder / "network.onnx")
    call(*convert, "--MNNModel", folder / "mnn.mnn", "--bizCode", "x")


def mnn_int8(folder: Path) -> None:
    """Quantise by mnnquant, which reads photos as images: each calibration photo as a PNG."""
    from PIL import Image

    images = folder / "mnn_images"
    images.mkdir(exist_ok=True)
    for place, photo in enumerate(photos(folder)):
        levels = np.rint((photo[0] + 1.0) * 127.5).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(levels).save(images / f"{place}.png")
    height, width = photos(folder)[0].shape[2:]
    settings = {
        **{"format": "RGB", "mean": [127.5] * 3, "normal": [1 / 127.5] * 3},
        **{"width": width, "height": height, "path": f"{images}/", "used_image_num": _FEW},
        **{"feature_quantize_method": "KL", "weight_quantize_method": "MAX_ABS"},
    }
    config = folder / "mnn_int8.json"
    config.write_text(json.dumps(settings))
    call("mnnquant", folder / "mnn.mnn", folder / "mnn_int8.mnn", config)


def openvino(folder: Path) -> None:
    """Convert by OpenVINO."""
    import openvino as ov

    ov.save_model(ov.convert_model(folder / "network.onnx"), folder / "openvino.xml")


def openvino_int8(folder: Path) -> None:
    """Quantise by NNCF."""
    import nncf
    import openvino as ov

    dataset = nncf.Dataset(photos(folder))
    model = ov.convert_model(folder / "network.onnx")
    ov.save_model(nncf.quantize(model, dataset), folder / "openvino_int8.xml")


def photos(folder: Path) -> list[np.ndarray]:
    """Give inputs to calibrate on, float32 [1, 3, s, s]."""
    resized = np.load(folder / "calibration.npy")[:_FEW]
    return np.split(resized, len(resized))


def call(tool: str, *arguments: object, folder: Path | None = None) -> None:
    """Run a tool of this environment; what it says goes to stderr."""
    command = [str(Path(sys.executable).with_name(tool)), *map(str, arguments)]
    ran = subprocess.run(command, check=False, cwd=folder, stdout=sys.stderr)
    if ran.returncode != 0:
        sys.exit(ran.returncode)  # its own last line is the reason


MADE: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        *(onnxruntime_int8, litert, litert_int8, onnx2tf, onnx2tf_int8, executorch),
        *(executorch_int8, ncnn, mnn, mnn_int8, openvino, openvino_int8),
    )
}
"""By tool."""

if __name__ == "__main__":
    MADE[sys.argv[1]](Path(sys.argv[2]))
