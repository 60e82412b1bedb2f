"""Features agree with plain formulas and OpenCV; the scale is fitted on what it is given alone."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from classkinfy_export.data import severity, splits
from classkinfy_export.data.dataset import Dataset, open_dataset
from classkinfy_export.data.severity import SeverityScale, measure
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TAXONOMY = Taxonomy(classes=("mel", "nv", "df"), graded=("mel", "nv"), malignant=("mel",), names={})
COLUMNS = ["area_fraction", "irregularity", "darkness", "colour_deviation"]


def disc(radius: int, height: int = 450, width: int = 600) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height // 2) ** 2 + (x - width // 2) ** 2 <= radius**2


def noise(height: int = 450, width: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("radius", [40, 100, 200])
def test_a_disc_has_its_area_and_irregularity_one(radius: int) -> None:
    features = measure(noise(), disc(radius))
    # A lattice disc's area is right to its border pixels' share; Crofton's to 1.2 % at 40 pixels.
    assert features.area_fraction * 450 * 600 == pytest.approx(math.pi * radius**2, rel=0.01)
    assert features.irregularity == pytest.approx(1, abs=0.015)


def test_a_ragged_border_is_more_irregular_as_opencv_finds() -> None:
    angle = np.linspace(0, 2 * math.pi, 720, endpoint=False)
    found = []
    for lobes in (0.0, 0.15, 0.35):
        radius = 120 * (1 + lobes * np.sin(9 * angle))
        points = np.stack([300 + radius * np.cos(angle), 225 + radius * np.sin(angle)], 1)
        mask = np.zeros((450, 600), np.uint8)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
        contour = points.astype(np.float32)  # the outline before it became pixels
        exact = cv2.arcLength(contour, True) ** 2 / (4 * math.pi * cv2.contourArea(contour))
        found.append(measure(noise(), mask).irregularity)
        assert found[-1] == pytest.approx(exact, rel=0.06)
    assert found[0] < found[1] < found[2]


def test_darkness_and_colour_are_of_the_lesion_and_as_plain_formulas_say() -> None:
    rgb, mask = noise(), disc(90)
    rgb[mask] //= 3
    inside = rgb.astype(np.float64)[mask]
    gray = 0.299 * inside[:, 0] + 0.587 * inside[:, 1] + 0.114 * inside[:, 2]
    _, deviation = cv2.meanStdDev(rgb, mask=mask.astype(np.uint8))
    features = measure(rgb, mask)
    assert features.darkness == pytest.approx(1 - gray.sum() / len(gray) / 255, rel=1e-12)
    assert features.colour_deviation == pytest.approx(deviation.mean(), rel=1e-9)
    rgb[~mask] = 0
    assert measure(rgb, mask) == features


def test_red_and_blue_are_not_mistaken_for_each_other() -> None:
    red, mask = np.zeros((50, 50, 3), np.uint8), disc(10, 50, 50)
    red[..., 0] = 255
    assert measure(red, mask).darkness == pytest.approx(1 - 0.299)


def test_only_the_largest_region_counts() -> None:
    mask = disc(60)
    alone = measure(noise(), mask)
    speckled = mask.copy()
    speckled[:20, :20] = True
    speckled[440, 590] = True
    assert measure(noise(), speckled) == alone
    assert measure(noise(), speckled.astype(np.uint8) * 255) == alone


def test_parts_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10:20, 10:20] = mask[20:30, 20:30] = 255
    assert measure(noise(60, 60), mask).area_fraction == 200 / 3600


def test_a_score_on_a_cut_takes_the_graver_grade() -> None:
    scale = SeverityScale(
        severities=("mild", "moderate", "severe"),
        weights=dict(zip(COLUMNS, (1.0, 0.0, 0.0, 0.0), strict=True)),
        ranges=dict.fromkeys(COLUMNS, (0.0, 1.0)),
        cuts={"nv": (0.25, 0.5)},
    )
    values = [0.0, 0.24, 0.25, 0.49, 0.5, 1.0]
    features = pd.DataFrame(dict.fromkeys(COLUMNS, values))
    dx = pd.Series("nv", features.index)
    assert scale.grade(features, dx).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_lesion_that_fills_the_frame_is_measured() -> None:
    features = measure(noise(), np.ones((450, 600), np.uint8))
    assert features.area_fraction == 1
    assert 1 < features.irregularity < 1050**2 * 4 / (4 * math.pi * 270000)


def test_an_empty_or_ill_sized_mask_is_refused() -> None:
    with pytest.raises(DataError, match="mask is empty"):
        measure(noise(), np.zeros((450, 600), np.uint8))
    with pytest.raises(DataError, match=r"mask is \[600, 450\], its image \[450, 600\]"):
        measure(noise(), np.ones((600, 450), np.uint8))


def made(count: int, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    ids = [f"I{i:04d}" for i in range(count)]
    values = rng.gamma(3.0, (0.1, 0.5, 0.2, 9.0), (count, 4))
    return pd.DataFrame(values, ids, COLUMNS), pd.Series(rng.choice(["mel", "nv"], count), ids)


def test_scores_are_the_weighted_sum_of_clipped_ranges() -> None:
    train, dx = made(300)
    new, _ = made(50, seed=1)
    expected = np.zeros(50)
    for column, weight in zip(COLUMNS, (0.3, 0.3, 0.2, 0.2), strict=True):
        low, high = np.quantile(train[column], 0.05), np.quantile(train[column], 0.95)
        expected += weight * np.clip((new[column].to_numpy() - low) / (high - low), 0, 1)
    score = SeverityScale.fit(train, dx, TAXONOMY).score(new)
    assert np.abs(score - expected).max() < 1e-12
    assert list(score.index) == list(new.index)


def test_grades_are_terciles_within_each_diagnosis_of_the_training_part() -> None:
    train, dx = made(299)
    train.loc[dx == "mel", "area_fraction"] += 1  # melanomas all score higher
    scale = SeverityScale.fit(train, dx, TAXONOMY)
    grade, score = scale.grade(train, dx), scale.score(train)
    for name in ("mel", "nv"):
        grades = grade[dx == name]
        expected = (score[dx == name].rank(method="first") - 1) * 3 // len(grades)
        counts = grades.value_counts()
        assert set(counts.index) == {0, 1, 2}
        assert counts.max() - counts.min() <= 1
        assert (grades != expected).sum() <= 2  # the images next to a cut
    assert grade.dtype == np.int64


def test_images_outside_training_change_nothing_and_are_graded_by_its_cuts() -> None:
    features, dx = made(200)
    train = features.iloc[:150]
    scale = SeverityScale.fit(train, dx, TAXONOMY)
    with_ungraded = pd.concat([train, features.iloc[150:] * 50])
    dx_df = dx.copy()
    dx_df.iloc[150:] = "df"
    assert SeverityScale.fit(with_ungraded, dx_df, TAXONOMY) == scale
    assert (scale.grade(features.iloc[150:] * 50, dx) == 2).all()
    assert (scale.grade(features.iloc[150:] * 0, dx) == 0).all()


def test_a_scale_survives_json_and_refuses_what_it_does_not_know() -> None:
    train, dx = made(120)
    scale = SeverityScale.fit(train, dx, TAXONOMY)
    again = SeverityScale.model_validate_json(scale.model_dump_json())
    assert again == scale
    assert again.grade(train, dx).equals(scale.grade(train, dx))
    content = scale.model_dump()
    for wrong in (
        {"colour": 1},
        {"weights": {**content["weights"], "darkness": 0.9}},
        {"ranges": {**content["ranges"], "darkness": (1.0, 0.0)}},
        {"cuts": {"mel": (0.5, 0.4)}},
        {"cuts": {"mel": (0.5,)}},
    ):
        with pytest.raises(ValidationError):
            SeverityScale.model_validate({**content, **wrong})


def test_a_feature_that_never_varies_adds_nothing() -> None:
    train, dx = made(60)
    train["darkness"] = 0.5
    assert SeverityScale.fit(train, dx, TAXONOMY).score(train).max() <= 0.8 + 1e-12


def test_too_little_to_cut_and_what_is_not_graded_are_refused() -> None:
    train, dx = made(60)
    with pytest.raises(DataError, match="mel has 2 training images"):
        SeverityScale.fit(
            train, dx.where(dx == "nv", "df").mask(dx.index < "I0002", "mel"), TAXONOMY
        )
    same = train.copy()
    same[:] = 1.0
    with pytest.raises(DataError, match="scores of mel are too alike"):
        SeverityScale.fit(same, dx, TAXONOMY)
    scale = SeverityScale.fit(train, dx, TAXONOMY)
    with pytest.raises(DataError, match="I0000 is df, which is not graded"):
        scale.grade(train, dx.mask(dx.index == "I0000", "df"))
    with pytest.raises(DataError, match="I0005 has features and no diagnosis"):
        scale.grade(train, dx.drop("I0005"))
    holed = train.copy()
    holed.loc["I0007", "darkness"] = np.nan
    with pytest.raises(DataError, match="I0007 has a feature that is no number"):
        scale.score(holed)


def folder(root: Path) -> Dataset:
    lines = ["lesion_id,image_id,dx"]
    (root / "images").mkdir()
    (root / "segmentations").mkdir()
    for number, dx in enumerate(("mel", "nv", "df", "nv")):
        lines.append(f"L{number},I{number},{dx}")
        Image.fromarray(noise(60, 80, number)).save(root / "images" / f"I{number}.png")
        if number != 3:
            mask = Image.fromarray(disc(10 + 5 * number, 60, 80))
            mask.save(root / "segmentations" / f"I{number}_segmentation.png")
    (root / "HAM10000_metadata.csv").write_text("\n".join(lines))
    return open_dataset(root, TAXONOMY)


def test_a_data_set_is_measured_from_its_files_in_the_order_asked(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    frame = severity.measure_dataset(
        folder(tmp_path), ["I2", "I0"], progress=lambda *call: done.append(call)
    )
    assert list(frame.index) == ["I2", "I0"]
    assert done == [(1, 2), (2, 2)]
    assert list(frame.columns) == COLUMNS
    for image_id, radius in (("I2", 20), ("I0", 10)):
        expected = measure(noise(60, 80, int(image_id[1])), disc(radius, 60, 80))
        assert frame.loc[image_id].to_dict() == vars(expected)


def test_images_without_an_experts_mask_are_measured_on_the_screens(tmp_path: Path) -> None:
    found = {"I3": (noise(60, 80, 3), disc(12, 60, 80) > 0)}
    frame = severity.measure_dataset(
        folder(tmp_path),
        ["I3", "I0"],
        screened=found.__getitem__,
    )
    assert frame.loc["I3"].to_dict() == vars(measure(noise(60, 80, 3), disc(12, 60, 80)))
    assert frame.loc["I0"].to_dict() == vars(measure(noise(60, 80, 0), disc(10, 60, 80)))
    nothing = severity.measure_dataset(
        open_dataset(tmp_path, TAXONOMY),
        ["I3", "I0"],
        screened=lambda image_id: (noise(60, 80, 3), np.zeros((60, 80), np.bool_)),
    )
    assert list(nothing.index) == ["I0"], "what the screen does not find is not graded"


def test_images_that_cannot_be_measured_are_named(tmp_path: Path) -> None:
    dataset = folder(tmp_path)
    with pytest.raises(DataError, match=r"1 of 2 images have no lesion mask.*I3.*severity\.csv"):
        severity.measure_dataset(dataset, ["I0", "I3"])
    with pytest.raises(DataError, match="I9 is not in"):
        severity.measure_dataset(dataset, ["I9"])
    mask = tmp_path / "segmentations" / "I1_segmentation.png"
    Image.new("1", (80, 60)).save(mask)
    with pytest.raises(DataError, match=r"I1 .* mask is empty"):
        severity.measure_dataset(dataset, ["I1"])
    mask.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"I1 .* cannot be measured"):
        severity.measure_dataset(dataset, ["I1"])


def test_own_grades_are_read_by_name_or_number(tmp_path: Path) -> None:
    path = tmp_path / "severity.csv"
    dataset = folder(tmp_path)
    path.write_text("image_id,severity\nI1,severe\nI0,1\nI3, mild \n")
    grades = severity.read_csv(path, dataset, TAXONOMY)
    assert grades.to_dict() == {"I0": 1, "I1": 2, "I3": 0}
    assert grades.dtype == np.int64
    assert open_dataset(tmp_path, TAXONOMY).fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("I7,mild", "grades image I7, which is not in"),
        ("I0,3", "I0 the unknown severity '3'.*mild, moderate, severe, 0, 1, 2"),
        ("I0,Mild", "I0 the unknown severity 'Mild'"),
        ("I0,mild\nI0,mild", "grades image I0 twice"),
        ("I2,mild", "grades image I2, which is df.*graded are mel, nv"),
    ],
)
def test_wrong_own_grades_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "severity.csv"
    dataset = folder(tmp_path)
    path.write_text(f"image_id,severity\n{rows}\n")
    with pytest.raises(DataError, match=message):
        severity.read_csv(path, dataset, TAXONOMY)
    path.write_text("image_id,grade\nI0,mild\n")
    with pytest.raises(DataError, match="lacks the column 'severity'"):
        severity.read_csv(path, dataset, TAXONOMY)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_real_lesions_are_graded_in_thirds() -> None:
    dataset = open_dataset(SHARED / "HAM10000", Taxonomy())
    graded = dataset.records["dx"].isin(dataset.taxonomy.graded)
    ids = list(dataset.records.index[graded])[::20]
    features = severity.measure_dataset(dataset, ids)
    assert features["area_fraction"].between(0, 1).all()
    assert (features["irregularity"] > 0.98).all()  # nothing is rounder than a disc
    assert features["darkness"].between(0, 1).all()
    frame = splits.split(dataset, SplitRecipe()).loc[ids]
    train = features[frame["part"] == "train"]
    scale = SeverityScale.fit(train, frame["dx"], dataset.taxonomy)
    counts = pd.crosstab(frame["dx"][train.index], scale.grade(train, frame["dx"]))
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
