"""What the shipped model must give in a runtime that is named, on two drawn lesions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.parity.verify import verify


def check(bundle: Path, names: Sequence[str], folder: Path) -> None:
    """Verify runtimes by name, with photos drawn in a folder."""
    photos = []
    for number, dx in enumerate(("mel", "nv")):
        photos.append(folder / f"{dx}.png")
        Image.fromarray(synthetic.lesion(dx, number).image).save(photos[-1])
    report = verify(Bundle.open(bundle), photos, names=names)
    assert report.failures() == []
    assert {d.runtime for d in report.decisions} == set(names)
    assert all(d.images == 2 and d.flips == 0 for d in report.decisions)
    tensors = {(t.runtime, t.tensor): t for t in report.tensors}
    for name in names:
        for exact in ("clean", "quality", "lesion_mask"):
            assert tensors[name, exact].minimum_tolerance == 0.0
        assert 0.0 < tensors[name, "probabilities"].minimum_tolerance <= 1e-4
