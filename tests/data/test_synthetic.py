from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from classkinfy_export.data import lesion as painters
from classkinfy_export.data.synthetic import CLASSES, Lesion, lesion, write_dataset
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

LESIONS_PER_CLASS = 5


def small(dx: str, seed: int, *, hair: float = 0.35, shot: int = 0) -> Lesion:
    return lesion(dx, seed, height=180, width=240, hair=hair, shot=shot)


def same(one: Lesion, other: Lesion) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image", "mask", "hair")
    )


def gray(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.asarray(Image.fromarray(image).convert("L")).astype(np.float64)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("synthetic") / "data", lesions_per_class=LESIONS_PER_CLASS, seed=3
    )


@pytest.fixture(scope="module")
def table(written: Path) -> pd.DataFrame:
    return pd.read_csv(written / "HAM10000_metadata.csv")


def test_every_class_of_the_default_taxonomy_can_be_drawn() -> None:
    assert Taxonomy().classes == CLASSES
    assert set(painters.STYLES) == set(CLASSES)


@pytest.mark.parametrize("dx", CLASSES)
def test_the_same_arguments_give_the_same_bytes(dx: str) -> None:
    assert same(small(dx, 5), small(dx, 5))
    assert not same(small(dx, 5), small(dx, 6))


def test_classes_with_one_seed_do_not_share_their_skin() -> None:
    corners = {small(dx, 5, hair=0).image[:8, :8].tobytes() for dx in CLASSES}
    assert len(corners) == len(CLASSES)


@pytest.mark.parametrize(("height", "width"), [(450, 600), (64, 64), (200, 91)])
def test_shapes_dtypes_and_values(height: int, width: int) -> None:
    for dx in CLASSES:
        one = lesion(dx, 1, height=height, width=width, shot=1)
        assert one.image.shape == (height, width, 3)
        assert one.mask.shape == one.hair.shape == (height, width)
        assert {one.image.dtype, one.mask.dtype, one.hair.dtype} == {np.dtype(np.uint8)}
        assert set(np.unique(one.mask)) == {0, 255}
        assert set(np.unique(one.hair)) <= {0, 255}


@pytest.mark.parametrize("dx", CLASSES)
def test_the_mask_is_one_region_without_large_holes(dx: str) -> None:
    for seed in range(12):
        mask = lesion(dx, seed, hair=0).mask > 0
        regions, count = ndimage.label(mask)
        largest = np.bincount(regions.ravel())[1:].max()
        assert count >= 1
        assert largest >= 0.98 * mask.sum(), seed
        assert ndimage.binary_fill_holes(mask).sum() <= 1.02 * mask.sum(), seed
        assert 0.005 < mask.mean() < 0.7, seed


@pytest.mark.parametrize("dx", CLASSES)
def test_the_mask_lies_on_the_lesion(dx: str) -> None:
    """The skin beside the mask looks like skin further out; the lesion does not."""
    outer, inner = [], []
    for seed in range(10):
        one = lesion(dx, seed, hair=0, ruler=False, vignette=False)
        mask = one.mask > 0
        away = ndimage.distance_transform_edt(~mask)
        skin = one.image[(away > 30) & (away < 60)].mean(axis=0)
        outer.append(np.abs(one.image[(away > 60) & (away < 90)].mean(axis=0) - skin).max())
        inner.append(np.abs(one.image[mask].mean(axis=0) - skin).max())
    assert np.median(inner) > 4 * np.median(outer)


def test_hair_is_darker_than_what_it_lies_on() -> None:
    for seed in range(6):
        for dx in CLASSES:
            bald, hairy = lesion(dx, seed, hair=0), lesion(dx, seed, hair=1)
            strands = hairy.hair > 0
            assert strands.any()
            assert not bald.hair.any()
            difference = gray(hairy.image) - gray(bald.image)
            assert np.median(difference[strands]) < -4
            far = ndimage.distance_transform_edt(~strands) > 4
            assert np.array_equal(hairy.image[far], bald.image[far])


def test_hair_on_a_third_of_the_images_and_dense_on_a_few() -> None:
    coverage = np.array([(small("nv", seed).hair > 0).mean() for seed in range(300)])
    # Binomial, n = 300: 0.35 and 0.05, each within four standard deviations.
    assert 0.24 < (coverage > 0).mean() < 0.46
    assert 0.005 < (coverage > 0.15).mean() < 0.1


def test_ruler_and_vignette_are_where_they_are_asked_for() -> None:
    def drawn(*, ruler: bool, vignette: bool) -> npt.NDArray[np.float64]:
        return gray(lesion("nv", 4, hair=0, ruler=ruler, vignette=vignette).image)

    plain = drawn(ruler=False, vignette=False)
    round_field = drawn(ruler=False, vignette=True)
    assert round_field[:20, :20].max() < 40 < plain[:20, :20].min()
    assert np.abs(round_field - plain)[150:300, 200:400].max() <= 2

    ticks = np.abs(drawn(ruler=True, vignette=False) - plain) > 15
    top_or_bottom = ticks[[0, -1]].any(axis=0)
    assert not ticks[60:-60].any()
    starts = np.flatnonzero(np.diff(top_or_bottom.astype(int)) == 1)
    assert len(starts) > 15
    assert np.ptp(np.diff(starts)) <= 2


def framed(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Cut a mask to its bounding box and bring it to 64 by 64."""
    ys, xs = np.nonzero(mask)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    return np.asarray(Image.fromarray(mask).resize((64, 64), Image.Resampling.NEAREST, box)) > 0


def test_another_shot_shows_the_same_lesion_a_little_nearer() -> None:
    overlaps, growths = [], []
    for seed in range(12):
        first, second = (
            lesion("vasc", seed, hair=0, vignette=False, ruler=False, shot=shot) for shot in (0, 1)
        )
        assert not np.array_equal(first.image, second.image)
        one, other = framed(first.mask), framed(second.mask)
        overlaps.append((one & other).sum() / (one | other).sum())
        growths.append((second.mask > 0).sum() / (first.mask > 0).sum())
        ratio = second.image[second.mask > 0].mean(axis=0) / first.image[first.mask > 0].mean(
            axis=0
        )
        # Exposure 0.86..1.1 and balance 0.95..1.05 on either shot, and the light's falloff.
        assert 1 / 1.5 < ratio.min() <= ratio.max() < 1.5
        # No corner of the turned frame falls outside the first picture.
        assert gray(second.image)[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 15
    assert min(overlaps) > 0.85
    # The zoom is 1 / 0.88 .. 1 / 0.8; counting whole pixels adds a little.
    assert 1.27 < min(growths) <= max(growths) < 1.59


def test_severity_features_vary_within_each_class() -> None:
    for dx in CLASSES:
        area, darkness = [], []
        for seed in range(40):
            one = small(dx, seed, hair=0)
            area.append((one.mask > 0).mean())
            darkness.append(gray(one.image)[one.mask > 0].mean())
        assert np.quantile(area, 0.9) > 2 * np.quantile(area, 0.1), dx
        assert np.ptp(np.quantile(darkness, (0.1, 0.9))) > 25, dx


@pytest.mark.parametrize("dx", ["NV", "scc", ""])
def test_an_unknown_class_is_refused_with_the_classes_named(dx: str) -> None:
    with pytest.raises(DataError, match="akiec, bcc, bkl, df, mel, nv, vasc"):
        lesion(dx, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"height": 63}, {"width": 0}, {"hair": 1.1}, {"hair": float("nan")}, {"shot": -1}],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        lesion("nv", 0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="seed"):
        lesion("nv", -1)


def test_the_layout_is_ham10000s(written: Path, table: pd.DataFrame) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "HAM10000_images_part_1",
        "HAM10000_images_part_2",
        "HAM10000_metadata.csv",
        "HAM10000_segmentations_lesion_tschandl",
    ]
    assert list(table.columns) == [
        *("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    ]
    parts = [
        sorted(path.name for path in (written / f"HAM10000_images_part_{n}").iterdir())
        for n in (1, 2)
    ]
    assert 0 <= len(parts[0]) - len(parts[1]) <= 1
    assert parts[0] + parts[1] == [f"{name}.jpg" for name in table["image_id"]]
    masks = written / "HAM10000_segmentations_lesion_tschandl"
    assert sorted(path.name for path in masks.iterdir()) == [
        f"{name}_segmentation.png" for name in table["image_id"]
    ]


def test_the_metadata_names_lesions_and_images(table: pd.DataFrame) -> None:
    lesions = 7 * LESIONS_PER_CLASS
    assert table["image_id"].tolist() == [f"SYN_{n + 1:07d}" for n in range(len(table))]
    assert table["lesion_id"].unique().tolist() == [f"SYNL_{n + 1:07d}" for n in range(lesions)]
    assert set(table["dx_type"]) == {"synthetic"}
    assert table["age"].between(20, 85).all()
    assert set(table["sex"]) <= {"female", "male"}
    by_lesion = table.groupby("lesion_id")
    assert (by_lesion["dx"].nunique() == 1).all()
    assert Counter(by_lesion["dx"].first()) == dict.fromkeys(CLASSES, LESIONS_PER_CLASS)
    assert Counter(by_lesion.size()) == {1: round(0.6 * lesions), 2: round(0.4 * lesions)}


def test_images_and_masks_decode_and_no_image_is_there_twice(
    written: Path, table: pd.DataFrame
) -> None:
    digests = set()
    for name in table["image_id"]:
        (path,) = written.glob(f"HAM10000_images_part_*/{name}.jpg")
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (600, 450))
        masks = written / "HAM10000_segmentations_lesion_tschandl"
        with Image.open(masks / f"{name}_segmentation.png") as mask:
            assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (600, 450))
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        digests.add(hashlib.sha256(path.read_bytes()).digest())
    assert len(digests) == len(table)


def test_one_seed_writes_the_same_files(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        folder = write_dataset(tmp_path / name, lesions_per_class=1, seed=seed)
        whole = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            whole.update(str(path.relative_to(folder)).encode() + path.read_bytes())
        return whole.hexdigest()

    first = digest("a", 0)
    assert digest("b", 0) == first
    assert digest("c", 1) != first


def test_progress_counts_every_image(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_dataset(tmp_path / "data", lesions_per_class=1, progress=lambda *call: calls.append(call))
    images = 7 + 3  # round(0.4 * 7) lesions are photographed twice
    assert calls == [(n + 1, images) for n in range(images)]


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_dataset(tmp_path, lesions_per_class=1)
    with pytest.raises(DataError, match="not empty"):
        write_dataset(tmp_path / "kept.txt", lesions_per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert write_dataset(folder, lesions_per_class=1) == folder
    assert (folder / "HAM10000_metadata.csv").is_file()


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "data", lesions_per_class=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_less_than_one_lesion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lesions_per_class=0"):
        write_dataset(tmp_path / "data", lesions_per_class=0)


def features(one: Lesion) -> list[float]:
    mask = one.mask > 0
    inside = one.image[mask].astype(np.float64)
    skin = one.image[~mask & (gray(one.image) > 40)].astype(np.float64)
    edge = mask & ~ndimage.binary_erosion(mask)
    middle = mask & (ndimage.distance_transform_edt(mask) > 0.6 * np.sqrt(mask.sum() / np.pi))
    core = one.image[middle].mean(axis=0) if middle.any() else inside.mean(axis=0)
    return [
        *(inside.mean(axis=0) - skin.mean(axis=0)),
        *inside.mean(axis=0),
        *inside.std(axis=0),
        *(core - inside.mean(axis=0)),
        mask.mean(),
        edge.sum() ** 2 / mask.sum(),
    ]


def test_a_simple_classifier_learns_the_classes_but_not_perfectly() -> None:
    rows, classes, groups = [], [], []
    for seed in range(24):
        for dx in CLASSES:
            for shot in range(2 if seed % 5 < 2 else 1):
                rows.append(features(small(dx, seed, shot=shot)))
                classes.append(dx)
                groups.append(f"{dx}{seed}")
    forest = RandomForestClassifier(150, random_state=0)
    guess = cross_val_predict(forest, np.array(rows), classes, groups=groups, cv=GroupKFold(4))
    score = balanced_accuracy_score(classes, guess)
    assert 0.6 < score < 0.99  # chance is 0.14; a single colour per class would give 1
