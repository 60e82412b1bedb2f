"""The origin project's checkpoints: from ``.pth`` files as they are to a bundle that answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import v2

from classkinfy_export import recipes, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.frame import frame
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity.verify import verify
from classkinfy_export.runtimes.session import Session

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

pytestmark = pytest.mark.slow


def settled(network: nn.Module) -> nn.Module:
    """Give random weights batch-norm statistics that keep signals alive, as training would."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 128, 128))
    return network.eval()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | nn.Module]:
    """An origin-style classifier and grader: networks built with timm alone, saved as it does."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("origin")
    b3 = timm.create_model("efficientnet_b3", num_classes=7)
    b2 = timm.create_model("efficientnet_b2", num_classes=0)
    head = nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(b2.num_features, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 3),
    )
    b2.classifier = head
    settled(b3)
    settled(b2)
    labels = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    torch.save(
        {
            "epoch": 7,
            "model_state_dict": b3.state_dict(),
            "optimizer_state_dict": {},
            "val_acc": np.float64(0.9),
            "label_map": {dx: i for i, dx in enumerate(labels)},
        },
        folder / "best_model.pth",
    )
    torch.save({"state_dict": b2.state_dict(), "target_disease": "mel"}, folder / "mel.pth")
    return {"folder": folder, "b3": b3, "b2": b2}


@pytest.fixture(scope="module")
def bundle(origin: dict[str, Path | nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = origin["folder"]
    assert isinstance(folder, Path)
    recipe = recipes.load("export/origin.yaml", recipes.ExportRecipe)
    sources = Sources.from_files(folder / "best_model.pth", {"mel": folder / "mel.pth"}, recipe)
    return export.export(sources, recipe, tmp_path_factory.mktemp("bundle") / "origin")


def test_an_origin_bundle_verifies_on_every_runtime(bundle: Bundle) -> None:
    assert bundle.manifest.weights_licence == "CC-BY-NC-4.0"
    assert bundle.manifest.networks["classify"].architecture == "efficientnet_b3"
    report = verify(bundle)
    assert {d.runtime for d in report.decisions} == {
        *("pytorch", "onnxruntime", "litert", "litert-reference", "tensorflow"),
    }
    assert report.failures() == []


def test_an_origin_bundle_answers_as_the_origins_own_code_does(
    bundle: Bundle, origin: dict[str, Path | nn.Module]
) -> None:
    drawn = synthetic.lesion("mel", 5, hair=0.0)
    session = Session(runtimes.get("onnxruntime").open(bundle))
    image = frame(drawn.image, bundle.manifest.capture)
    tensors = session.run(image, also_grade=["mel"])
    for network, size, name in (("b3", 300, "probabilities"), ("b2", 224, "severity_mel")):
        transform = v2.Compose(
            [
                v2.Resize((size, size), antialias=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )
        clean = torch.from_numpy(tensors["clean"][0]).permute(2, 0, 1)
        module = origin[network]
        assert isinstance(module, nn.Module)
        with torch.inference_mode():
            expected = torch.softmax(module(transform(clean)[None]), dim=-1).numpy()
        # torchvision's resize rounds once in 15-bit weights: a level here and there.
        np.testing.assert_allclose(tensors[name], expected, atol=2e-3)


def test_only_the_routed_grader_is_opened(bundle: Bundle) -> None:
    with runtimes.get("onnxruntime").open(bundle) as engine:
        session = Session(engine)
        tensors = session.run(
            frame(synthetic.lesion("nv", 1, hair=0.0).image, bundle.manifest.capture)
        )
        diagnosis = bundle.manifest.taxonomy.classes[int(tensors["diagnosis"][0])]
        opened = {Path(path).stem for path in engine.opened()}
        assert opened == {"prepare", "classify"} | ({"grade_mel"} & {f"grade_{diagnosis}"})
