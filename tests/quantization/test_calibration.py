"""The calibration set: which photos are drawn, and which never are."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.data.splits import split as deal
from classkinfy_export.data.splits import write as write_split
from classkinfy_export.errors import DataError, ImageError, RecipeError
from classkinfy_export.frame import list_images
from classkinfy_export.jobs import export
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.quantization.photos import Photos, Training, choose, others
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe, SplitRecipe
from classkinfy_export.taxonomy import Taxonomy

INT8 = "static_wi8_ai8"
TAXONOMY = Taxonomy()
COUNTS = {"akiec": 9, "bcc": 12, "bkl": 30, "df": 3, "mel": 31, "nv": 80, "vasc": 5}
"""Lesions of each class; every third has a second photo."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in HAM10000's layout, as uneven as that one; its photos are all one pixel."""
    folder = tmp_path_factory.mktemp("data") / "HAM"
    (folder / "images").mkdir(parents=True)
    rows = []
    for dx, lesions in COUNTS.items():
        for lesion in range(lesions):
            for photo in range(2 if lesion % 3 == 0 else 1):
                rows.append((f"L_{dx}_{lesion}", f"I_{dx}_{lesion}_{photo}", dx))
    for _, image, _ in rows:
        Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "images" / f"{image}.png")
    table = pd.DataFrame(rows, columns=["lesion_id", "image_id", "dx"])
    table.to_csv(folder / "HAM10000_metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def split_csv(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split") / "split.csv"
    recipe = SplitRecipe(val=0.1, calib=0.1, test=0.2)
    write_split(deal(open_dataset(data, TAXONOMY), recipe), path)
    return path


def drawn(data: Path, images: int = 40, seed: int = 0, **known: object) -> Photos:
    recipe = CalibrationRecipe(images=images, seed=seed)
    return choose(data, recipe, TAXONOMY, **known)  # type: ignore[arg-type]


def rows_of(photos: Photos, data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "HAM10000_metadata.csv").set_index("image_id")
    return table.loc[[path.stem for path in photos.paths]]


def test_every_diagnosis_gives_as_many_and_a_rare_one_all_that_it_has(data: Path) -> None:
    photos = drawn(data, images=70)
    count = Counter(rows_of(photos, data)["dx"])
    assert count.total() == len(set(photos.paths)) == 70
    assert dict(count) == photos.classes
    # df has 4 photos and vasc 7; the other 59 are dealt to five.
    assert (count["df"], count["vasc"]) == (4, 7)
    rest = [count[dx] for dx in ("akiec", "bcc", "bkl", "mel", "nv")]
    assert max(rest) - min(rest) <= 1


def test_a_class_that_the_data_lack_is_counted_as_none(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    table = pd.read_csv(data / "HAM10000_metadata.csv")
    table[table["dx"] != "df"].to_csv(tmp_path / "data" / "HAM10000_metadata.csv", index=False)
    classes = drawn(tmp_path / "data").classes
    assert classes is not None
    assert classes["df"] == 0
    assert sum(classes.values()) == 40


def test_a_lesion_gives_a_second_photo_only_when_every_other_gave_one(data: Path) -> None:
    rows = rows_of(drawn(data, images=28), data)  # four a class; df has three lesions
    seconds = rows[rows["lesion_id"].duplicated()]
    assert list(seconds["dx"]) == ["df"]


def test_both_halves_have_as_many_of_each_diagnosis(data: Path) -> None:
    dx = list(rows_of(drawn(data, images=70), data)["dx"])
    even, odd = Counter(dx[::2]), Counter(dx[1::2])
    assert all(abs(even[c] - odd[c]) <= 1 for c in TAXONOMY.classes)


def test_the_same_seed_draws_the_same_photos_wherever_they_lie_and_another_draws_others(
    data: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    for folder, there in ((data, moved), (data / "images", moved / "images")):
        names = [path.name for path in drawn(folder).paths]
        assert [path.name for path in drawn(there).paths] == names
        assert [path.name for path in drawn(folder, seed=1).paths] != names
        assert drawn(folder, seed=1).seed == 1


def test_no_lesion_that_is_held_out_is_drawn(data: Path, split_csv: Path) -> None:
    split = pd.read_csv(split_csv).set_index("image_id")
    held = set(split["lesion_id"][split["part"] != "train"])
    assert held & set(rows_of(drawn(data, images=500), data)["lesion_id"])
    for known in ({"split": split_csv}, {"training": Training(split=split_csv)}):
        photos = drawn(data, images=500, **known)
        rows = rows_of(photos, data)
        assert set(split["part"][rows.index]) == {"train"}
        assert len(rows) == (split["part"] == "train").sum()
        assert not held & set(rows["lesion_id"])
        assert photos.split_sha256 == hashlib.sha256(split_csv.read_bytes()).hexdigest()


def test_photos_that_the_split_does_not_name_are_not_drawn_nor_lesions_in_two_parts(
    data: Path, split_csv: Path, tmp_path: Path
) -> None:
    split = pd.read_csv(split_csv).set_index("image_id")
    train = split[split["part"] == "train"]
    unnamed, other = train.index[0], train.index[-1]
    split.loc["I_elsewhere"] = [train["lesion_id"][other], train["dx"][other], "test"]
    split.drop(index=unnamed).to_csv(tmp_path / "split.csv")
    names = {path.stem for path in drawn(data, 500, split=tmp_path / "split.csv").paths}
    siblings = set(train.index[train["lesion_id"] == train["lesion_id"][other]])
    assert names == set(train.index) - {unnamed} - siblings


def test_a_folder_with_a_held_out_photo_is_refused_and_told_what_to_do(
    data: Path, split_csv: Path, tmp_path: Path
) -> None:
    split = pd.read_csv(split_csv).set_index("image_id")
    held = split.index[split["part"] == "test"][0]
    for image in (*split.index[split["part"] == "train"][:5], held):
        shutil.copy(data / "images" / f"{image}.png", tmp_path)
    with pytest.raises(DataError) as caught:
        drawn(tmp_path, training=Training(split=split_csv))
    for fragment in (f"{held}.png is in the split's 'test' part", "with its table", "move them"):
        assert fragment in str(caught.value)
    (tmp_path / f"{held}.png").unlink()
    assert len(drawn(tmp_path, training=Training(split=split_csv)).paths) == 5


def test_other_data_than_the_runs_are_taken_whole(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("image_id,lesion_id,dx,part\nISIC_1,HAM_1,nv,test\n")
    for folder in (data, data / "images"):
        photos = drawn(folder, images=500, training=Training(split=path))
        assert len(photos.paths) == len(list_images(data))
        assert photos.split_sha256 is None
        with pytest.raises(DataError, match="names none of the photos in"):
            drawn(folder, split=path)


def test_data_that_the_model_was_trained_on_need_its_own_split(
    data: Path, split_csv: Path, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(split_csv.read_bytes()).hexdigest()
    fingerprint = open_dataset(data, TAXONOMY).fingerprint()
    for known in (
        {"fingerprint": fingerprint},
        {"fingerprint": "0", "members": f"1 {fingerprint}"},
    ):
        training = Training({**known, "split_sha256": sha256})
        with pytest.raises(DataError, match=r"trained on a part of HAM10000.*: give --split"):
            drawn(data, training=training)
        assert len(drawn(data, training=training, split=split_csv).paths) == 40
        another = tmp_path / "another.csv"
        another.write_text(split_csv.read_text().replace(",test", ",val"))
        with pytest.raises(DataError, match="is not the split that the model was trained by"):
            drawn(data, training=training, split=another)


def test_no_folder_no_photo_and_no_photo_to_train_on_are_refused(
    data: Path, split_csv: Path, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        drawn(tmp_path / "gone")
    with pytest.raises(ImageError, match="holds no image"):
        drawn(tmp_path)
    (tmp_path / "all.csv").write_text(split_csv.read_text().replace(",train", ",test"))
    with pytest.raises(DataError, match=r"leaves no photo of .* in 'train'"):
        drawn(data, split=tmp_path / "all.csv")


def test_the_runs_own_split_and_data_come_with_it() -> None:
    sources = Sources.from_run(SHIPPED)
    assert sources.training.split == SHIPPED / "split.csv"
    digest = hashlib.sha256((SHIPPED / "split.csv").read_bytes()).hexdigest()
    assert sources.training.data["split_sha256"] == digest
    alone = Sources.from_files(SHIPPED / "classifier.safetensors", {}, ExportRecipe())
    assert alone.training.split == SHIPPED / "split.csv"


def test_others_of_a_data_set_are_of_other_lesions(data: Path) -> None:
    chosen = drawn(data)
    rest = others(data, chosen, 10**6, TAXONOMY)
    one, two = (set(rows_of(photos, data)["lesion_id"]) for photos in (chosen, rest))
    assert one
    assert one.isdisjoint(two)
    assert one | two == set(pd.read_csv(data / "HAM10000_metadata.csv")["lesion_id"])
    fewer = others(data, chosen, 7, TAXONOMY)
    assert fewer.paths == rest.paths[:7]


def test_others_of_a_data_set_that_is_split_are_those_that_training_tunes_by(
    data: Path, split_csv: Path
) -> None:
    chosen = drawn(data, split=split_csv)
    rest = others(data, chosen, 10**6, TAXONOMY, split=split_csv)
    part = pd.read_csv(split_csv).set_index("image_id")["part"]
    tuning = part[part.isin(["val", "calib"])].index
    assert {path.stem for path in rest.paths} == set(tuning)


def test_others_of_a_folder_are_its_other_files(data: Path) -> None:
    folder = data / "images"
    chosen = drawn(folder)
    rest = others(folder, chosen, 10**6, TAXONOMY)
    assert {*rest.paths, *chosen.paths} == set(list_images(folder))
    assert not {*rest.paths} & {*chosen.paths}
    assert not others(folder, drawn(folder, images=10**6), 9, TAXONOMY).paths


def test_a_split_without_photos_is_refused(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    split_csv: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(RecipeError, match="needs --calibration"):
        export.export(checkpoints("trunk"), small_recipe, tmp_path / "b", split=split_csv)
