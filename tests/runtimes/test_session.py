"""An answer is whole, or there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError
from classkinfy_export.runtimes.base import Array
from classkinfy_export.runtimes.session import Session


@pytest.mark.parametrize("form", get_args(Form))
def test_a_grade_that_is_no_number_is_no_answer(
    trunk_bundle: Path, lesions: list[Path], form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        session = Session(engine, form)
        graded = next(p for p in lesions if session.predict(np.asarray(Image.open(p))).severity)
        run = engine.run

        def spoilt(stage: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
            given = run(stage, tensors)
            if "severity" in given:
                given["severity"] = given["severity"].copy()
                given["severity"][0, 1] = np.nan
            return given

        monkeypatch.setattr(engine, "run", spoilt)
        with pytest.raises(BundleError, match=r"gives 1 of 3 values of severity as NaN"):
            session.predict(graded)
