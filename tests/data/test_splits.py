"""No lesion crosses parts, every image is in one, shares are kept, and files are checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classkinfy_export.data import splits
from classkinfy_export.data.dataset import Dataset, open_dataset
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TAXONOMY = Taxonomy()
SHARES = {"train": 0.65, "val": 0.10, "calib": 0.05, "test": 0.20}
RECIPE = SplitRecipe(val=0.10, calib=0.05, test=0.20)


def dataset_of(lesions: list[tuple[str, int]]) -> Dataset:
    """Make a data set of ``(dx, number of images)`` lesions; there are no files behind it."""
    rows = [
        (f"I{lesion:04d}_{image}", dx, f"L{lesion:04d}")
        for lesion, (dx, images) in enumerate(lesions)
        for image in range(images)
    ]
    records = pd.DataFrame(rows, columns=["image_id", "dx", "lesion_id"]).set_index("image_id")
    return Dataset("made", Path("made"), records, TAXONOMY)


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    records = dataset.records.sample(frac=1, random_state=seed)
    return Dataset(dataset.name, dataset.root, records, dataset.taxonomy)


lesion_lists = st.lists(
    st.tuples(st.sampled_from(TAXONOMY.classes), st.integers(1, 6)), min_size=1, max_size=150
)


@settings(max_examples=60, deadline=None)
@given(lesion_lists, st.integers(0, 2**31), st.integers(0, 1000))
def test_each_image_is_once_in_one_part_and_lesions_stay_whole_in_any_row_order(
    lesions: list[tuple[str, int]], seed: int, order: int
) -> None:
    dataset = dataset_of(lesions)
    recipe = RECIPE.model_copy(update={"seed": seed})
    frame = splits.split(dataset, recipe)
    assert list(frame.index) == list(dataset.records.index)
    assert set(frame["part"]) <= set(splits.PARTS)
    assert (frame.groupby("lesion_id")["part"].nunique() == 1).all()
    again = splits.split(shuffled(dataset, order), recipe)
    assert again["part"].to_dict() == frame["part"].to_dict()


@settings(max_examples=40, deadline=None)
@given(lesion_lists)
def test_each_class_has_its_share_to_within_its_largest_lesion(
    lesions: list[tuple[str, int]],
) -> None:
    frame = splits.split(dataset_of(lesions), RECIPE)
    for dx, rows in frame.groupby("dx"):
        largest = max(images for name, images in lesions if name == dx)
        counts = rows["part"].value_counts()
        for part, share in SHARES.items():
            # One lesion above or below, and one that an otherwise empty part was given.
            assert abs(counts.get(part, 0) - share * len(rows)) <= 2 * largest


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_a_class_of_few_lesions_fills_train_test_val_calib_in_this_order(sizes: list[int]) -> None:
    frame = splits.split(dataset_of([("df", size) for size in sizes]), RECIPE)
    expected = ("train", "test", "val", "calib")[: len(sizes)]
    assert set(frame["part"]) == set(expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(TAXONOMY.classes), min_size=1, max_size=5),
        min_size=1,
        max_size=60,
    )
)
def test_groups_of_several_diagnoses_stay_whole(patients: list[list[str]]) -> None:
    rows = [
        (f"P{p}_{i}", dx, f"P{p}")
        for p, classes in enumerate(patients)
        for i, dx in enumerate(classes)
    ]
    records = pd.DataFrame(rows, columns=["image_id", "dx", "lesion_id"]).set_index("image_id")
    dataset = Dataset("made", Path("made"), records.sort_index(), TAXONOMY)
    frame = splits.split(dataset, RECIPE)
    assert (frame.groupby("lesion_id")["part"].nunique() == 1).all()
    assert list(frame.index) == list(dataset.records.index)


def test_images_that_came_with_a_rarer_diagnosis_count_in_their_own_class() -> None:
    rows = [(f"P{p}_{i}", dx, f"P{p}") for p in range(50) for i, dx in enumerate(("mel", "nv"))]
    rows += [(f"Q{q}", "nv", f"Q{q}") for q in range(50)]
    records = pd.DataFrame(rows, columns=["image_id", "dx", "lesion_id"]).set_index("image_id")
    frame = splits.split(Dataset("made", Path("made"), records, TAXONOMY), RECIPE)
    naevi = frame.loc[frame["dx"] == "nv", "part"].value_counts()
    assert naevi.to_dict() == {"train": 65, "val": 10, "calib": 5, "test": 20}


def test_many_lesions_of_one_image_are_split_to_the_image() -> None:
    frame = splits.split(dataset_of([("nv", 1)] * 200 + [("mel", 1)] * 100), RECIPE)
    for dx, images in (("nv", 200), ("mel", 100)):
        counts = frame.loc[frame["dx"] == dx, "part"].value_counts()
        assert all(abs(counts[part] - share * images) <= 1 for part, share in SHARES.items())


def test_lesions_with_many_images_are_spread_as_the_others() -> None:
    frame = splits.split(dataset_of([("nv", 4)] * 100 + [("nv", 1)] * 100), RECIPE)
    sizes = frame.groupby("lesion_id").agg(images=("part", "size"), part=("part", "first"))
    for images in (1, 4):
        counts = sizes.loc[sizes["images"] == images, "part"].value_counts()
        assert all(abs(counts[part] - share * 100) <= 3 for part, share in SHARES.items())


def test_a_part_with_no_share_stays_empty() -> None:
    recipe = SplitRecipe(val=0.2, calib=0.0, test=0.0)
    assert set(splits.split(dataset_of([("nv", 2)] * 20), recipe)["part"]) == {"train", "val"}


def test_another_seed_gives_another_split() -> None:
    dataset = dataset_of([("nv", 1)] * 100)
    other = splits.split(dataset, RECIPE.model_copy(update={"seed": 1}))
    assert not other.equals(splits.split(dataset, RECIPE))


def test_the_split_of_seed_0_is_pinned_and_does_not_follow_the_hash_seed() -> None:
    """A new order would leak trained lesions into the tests of everyone's weights."""
    frame = splits.split(dataset_of([("nv", 2), ("nv", 1), ("nv", 1), ("mel", 1)] * 3), RECIPE)
    numbers = "".join(str(splits.PARTS.index(part)) for part in frame["part"])
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import test_splits as t\n"
        "made = t.dataset_of([('nv', 2), ('nv', 1), ('nv', 1), ('mel', 1)] * 3)\n"
        "parts = t.splits.split(made, t.RECIPE)['part']\n"
        "print(''.join(str(t.splits.PARTS.index(p)) for p in parts))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == numbers == "002030000033011"


def test_a_written_split_reads_back_and_is_plain_sorted_csv(tmp_path: Path) -> None:
    dataset = dataset_of([("nv", 2), ("mel", 1), ("nv", 1)])
    frame = splits.split(dataset, RECIPE)
    path = tmp_path / "run" / "split.csv"
    splits.write(frame.iloc[::-1], path)
    content = path.read_bytes()
    assert content.startswith(b"image_id,lesion_id,dx,part\nI0000_0,L0000,nv,train\n")
    assert content.endswith(b"\n")
    assert b"\r" not in content
    assert [p.name for p in path.parent.iterdir()] == ["split.csv"]
    pd.testing.assert_frame_equal(splits.read(path, dataset), frame)


def test_a_different_split_is_not_overwritten_and_the_same_one_is_no_error(tmp_path: Path) -> None:
    dataset = dataset_of([("nv", 1)] * 30)
    frame = splits.split(dataset, RECIPE)
    path = tmp_path / "split.csv"
    splits.write(frame, path)
    splits.write(frame, path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="already holds another split"):
        splits.write(splits.split(dataset, RECIPE.model_copy(update={"seed": 5})), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_id,lesion_id,dx,part", "image_id,lesion_id,dx,fold", "lacks the column 'part'"),
        ("I0001_0,L0001,mel,train", "I0001_0,L0001,mel,dev", "I0001_0 into the unknown part 'dev'"),
        ("I0001_0,L0001,mel,train\n", "", "leaves out 1 images .* first is I0001_0"),
        ("I0001_0,L0001", "I0009_0,L0001", "1 images that are not in .* I0009_0"),
        ("I0001_0,L0001", "I0001_0,L0007", "I0001_0 the lesion_id L0007, the data set L0001"),
        ("I0001_0,L0001,mel", "I0001_0,L0001,bcc", "I0001_0 the dx bcc, the data set mel"),
        ("I0000_1,L0000,nv,train", "I0000_1,L0000,nv,test", "L0000 in train and test"),
        ("I0000_1,L0000", "I0000_0,L0000", "lists image I0000_0 twice"),
    ],
)
def test_a_split_that_does_not_fit_the_data_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    dataset = dataset_of([("nv", 2), ("mel", 1)])
    path = tmp_path / "split.csv"
    splits.write(splits.split(dataset, RECIPE), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        splits.read(path, dataset)


def test_a_split_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        splits.read(tmp_path / "none.csv", dataset_of([("nv", 1)]))


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
@pytest.mark.parametrize(("name", "tolerance"), [("HAM10000", 0.01), ("PAD-UFES-20", 0.07)])
def test_on_real_data_each_class_is_in_each_part_with_its_share(
    name: str, tolerance: float
) -> None:
    """Tolerances: one image of the rarest class, 1/115 and 1/15."""
    dataset = open_dataset(SHARED / name, TAXONOMY)
    frame = splits.split(dataset, RECIPE)
    shares = pd.crosstab(frame["dx"], frame["part"], normalize="index")
    assert set(shares.columns) == set(splits.PARTS)
    assert (shares > 0).all().all()
    for part, share in SHARES.items():
        assert (shares[part] - share).abs().max() <= tolerance
    assert (frame.groupby("lesion_id")["part"].nunique() == 1).all()
