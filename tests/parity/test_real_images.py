"""The shipped model on two hundred real photos: both formats decide as PyTorch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classkinfy_export import recipes, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.frame import frame, list_images
from classkinfy_export.jobs import export
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity.verify import verify

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "HAM10000"
IMAGES = 200


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_the_shipped_model_agrees_with_pytorch_on_two_hundred_real_images(tmp_path: Path) -> None:
    recipe = recipes.load(
        "export/mobile.yaml",
        recipes.ExportRecipe,
        ("forms=[fused]", "pipeline_outputs=[clean, lesion_mask, features]"),
    )
    bundle = export.export(Sources.from_run(SHIPPED), recipe, tmp_path / "bundle")

    photos = list_images(SHARED)
    report = verify(bundle, photos[:: len(photos) // IMAGES][:IMAGES], threads=1)
    assert report.failures() == []
    assert report.images == IMAGES
    for runtime in ("onnxruntime", "litert"):
        tensors = {t.tensor: t for t in report.tensors if t.runtime == runtime}
        assert tensors["probabilities"].tolerance == 1e-5
        assert 0 < tensors["probabilities"].minimum_tolerance <= 1e-5
        assert 0 < tensors["preliminary"].minimum_tolerance <= 1e-5
        assert tensors["features"].minimum_tolerance <= 1e-3
        for name in ("clean", "quality", "lesion_mask"):
            assert tensors[name].images == IMAGES
            assert tensors[name].minimum_tolerance == 0.0
        decisions = next(d for d in report.decisions if d.runtime == runtime)
        assert decisions.label_agreement == 1.0
    clusters = [i for i, name in enumerate(SCREEN_FEATURES) if name.startswith("cluster")]
    engines = [
        runtimes.get(name).open(Bundle.open(bundle.path))
        for name in ("pytorch", "onnxruntime", "litert")
    ]
    for path in photos[:: len(photos) // 20][:20]:
        image = {"image": frame(path, recipe.capture)}
        given = [engine.run("pipeline", image)["features"][0, clusters] for engine in engines]
        np.testing.assert_array_equal(given[1], given[0])
        np.testing.assert_array_equal(given[2], given[0])
