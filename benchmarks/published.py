"""Latencies that others published, and the work of the networks that they ran."""

from __future__ import annotations

import gc
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torchvision
import yaml
from pydantic import Field
from torch import Tensor, nn

from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.document import Document
from classkinfy_export.formats.litert import conversion
from classkinfy_export.latency.estimate import litert
from classkinfy_export.latency.estimate.work import Number, Operator, Work

PATH = Path(__file__).with_name("published.yaml")


class Network(Document):
    family: str
    """Held out together: its members differ in width and size only."""
    make: str
    """A model of timm or torchvision, or the name of a function below."""
    size: int
    settings: dict[str, Any] = Field(default_factory=dict)


class Row(Document):
    network: str
    number: Number
    phone: str
    threads: tuple[int, ...]
    """More than one where the source does not say which."""
    ms: float


class Source(Document):
    id: str
    document: str
    where: str
    note: str = ""
    kernels: Literal["builtin", "xnnpack"]
    use: Literal["fit", "check"]
    rows: tuple[Row, ...]


class Published(Document):
    networks: dict[str, Network]
    sources: tuple[Source, ...]

    @classmethod
    def load(cls) -> Published:
        return cls.model_validate(yaml.safe_load(PATH.read_text(encoding="utf-8")))


class _Alone(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(image)}


def mobilenet_v1(width: float) -> nn.Module:
    """Return MobileNet v1, https://arxiv.org/abs/1704.04861, table 1."""

    def block(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())

    before = int(32 * width)
    layers: list[nn.Module] = [block(3, before, 3, 2, 1)]
    shapes = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
    for wide, stride in (*shapes, *[(512, 1)] * 5, (1024, 2), (1024, 1)):
        outputs = int(wide * width)
        layers += [block(before, before, 3, stride, before), block(before, outputs, 1, 1, 1)]
        before = outputs
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1001), nn.Softmax(dim=1))
    return nn.Sequential(*layers, *head)


def module(network: Network) -> nn.Module:
    """Return a network, its weights random: latency hangs on shapes."""
    library, _, name = network.make.rpartition("/")
    made: nn.Module
    if library == "timm":
        made = timm.create_model(name, pretrained=False, **network.settings)
    elif library == "torchvision":
        # Weights that take a minute to draw are not needed.
        quick = {"init_weights": False} if name in ("googlenet",) else {}
        made = torchvision.models.get_model(name, weights=None, **quick, **network.settings)
    else:
        made = {"mobilenet_v1": mobilenet_v1}[name](**network.settings)
    return made.eval()


def count(network: Network, cache: Path) -> Work:
    """Convert a network to LiteRT as a bundle's are, and count its work, or read it anew."""
    key = repr((network, sorted(Operator.model_fields)))
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = cache / f"{name}.json"
    if not path.exists():
        shape = (1, 3, network.size, network.size)
        image = TensorSpec(name="image", dtype="float32", shape=shape, unit="")
        logits = TensorSpec(name="logits", dtype="float32", shape=(1, 1), unit="")
        spec = StageSpec(name="network", kind="classify", inputs=(image,), outputs=(logits,))
        with torch.no_grad():
            flat = conversion.convert(_Alone(module(network)), spec)
        work = Work(
            stage=spec.name,
            format="litert",
            precision="fp32",
            operators=tuple(litert.operators(flat, spec.name)),
        )
        path.write_text(json.dumps(work.model_dump(mode="json")), encoding="utf-8")
        gc.collect()
    return Work.model_validate_json(path.read_bytes())


def int8(work: Work) -> Work:
    """Return the work of the same network, all of it in int8: a quarter of the bytes."""

    def coded(operator: Operator) -> Operator:
        update = {"number": "int8", "moved_bytes": operator.moved_bytes // 4}
        return operator.model_copy(update=update)

    return work.model_copy(update={"operators": tuple(map(coded, work.operators))})
