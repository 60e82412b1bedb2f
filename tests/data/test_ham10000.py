"""HAM10000 and ISIC 2018 as they lie on people's disks, and what is said when they are broken."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from classkinfy_export.data.dataset import Dataset, check_images, open_dataset
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TAXONOMY = Taxonomy()
HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
ROWS = (
    "HAM_2,ISIC_3,mel,histo,60.0,male,chest",
    "HAM_1,ISIC_1,nv,follow_up,,female,",
    "HAM_1,ISIC_2,nv,follow_up,55.0,,back",
)


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((32, 24), 40).convert("RGB").save(path)


def kaggle(
    root: Path, rows: tuple[str, ...] = ROWS, header: str = HEADER, name: str = "HAM10000_metadata"
) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join((header, *rows, "")), encoding="utf-8")
    photo(root / "HAM10000_images_part_1" / "ISIC_1.jpg")
    photo(root / "ham10000_IMAGES_part_2" / "ISIC_2.jpg")
    photo(root / "ham10000_IMAGES_part_2" / "ISIC_3.jpg")
    photo(root / "HAM10000_segmentations_lesion_tschandl" / "ISIC_3_segmentation.png")
    return root


def isic(root: Path, rows: str, groups: str | None = None) -> Path:
    for number in (1, 2, 3):
        photo(root / "ISIC2018_Task3_Training_Input" / f"ISIC_{number}.jpg")
    truth = root / "ISIC2018_Task3_Training_GroundTruth.csv"
    truth.write_text(f"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n{rows}", encoding="utf-8")
    if groups is not None:
        table = root / "ISIC2018_Task3_Training_LesionGroupings.csv"
        table.write_text(f"image,lesion_id,diagnosis confirm type\n{groups}", encoding="utf-8")
    return root


def opened(root: Path) -> Dataset:
    return open_dataset(root, TAXONOMY)


@pytest.mark.parametrize(
    "name", ["HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab", "metadata.csv"]
)
def test_kaggle_archive_opens_whatever_its_table_is_called(tmp_path: Path, name: str) -> None:
    dataset = opened(kaggle(tmp_path, name=name))
    records = dataset.records
    assert (dataset.name, len(dataset)) == ("HAM10000", 3)
    assert list(records.index) == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert list(records.columns) == ["path", "dx", "lesion_id", "mask", "age", "sex", "site"]
    assert list(records["dx"]) == ["nv", "nv", "mel"]
    assert list(records["lesion_id"]) == ["HAM_1", "HAM_1", "HAM_2"]
    assert records["path"]["ISIC_2"] == str(tmp_path / "ham10000_IMAGES_part_2" / "ISIC_2.jpg")
    assert records["mask"]["ISIC_1"] is None
    assert records["mask"]["ISIC_3"].endswith("ISIC_3_segmentation.png")
    assert records["age"].isna().tolist() == [True, False, False]
    assert list(records["sex"]) == ["female", "unknown", "male"]
    assert list(records["site"]) == ["unknown", "back", "chest"]


def test_a_table_with_tabs_and_a_byte_order_mark_opens(tmp_path: Path) -> None:
    root = kaggle(tmp_path, name="HAM10000_metadata.tab")
    table = root / "HAM10000_metadata.tab"
    text = table.read_text(encoding="utf-8").replace(",", "\t")
    table.write_text(text, encoding="utf-8-sig")
    assert len(opened(root)) == 3


def test_one_flat_folder_of_images_of_any_ending_opens(tmp_path: Path) -> None:
    (tmp_path / "my_table.csv").write_text("image_id,dx,lesion_id\na,nv,1\nb,df,2\nc,mel,3\n")
    for name in ("a.JPEG", "b.png", "c.jpg"):
        photo(tmp_path / "deep" / "down" / name)
    records = opened(tmp_path).records
    assert [Path(path).name for path in records["path"]] == ["a.JPEG", "b.png", "c.jpg"]


def test_a_mask_is_never_taken_for_a_photo(tmp_path: Path) -> None:
    root = kaggle(tmp_path)
    (root / "HAM10000_images_part_1" / "ISIC_1.jpg").unlink()
    photo(root / "Segmentation" / "ISIC_1.png")
    photo(root / "segmentations" / "ISIC_1_segmentation.png")
    with pytest.raises(DataError, match=r"1 of the 3 images .* missing, the first is ISIC_1"):
        opened(root)


def test_of_doubled_images_the_first_path_counts(tmp_path: Path) -> None:
    root = kaggle(tmp_path)
    photo(root / "zz_copy" / "ISIC_1.jpg")
    photo(root / "__MACOSX" / "ISIC_1.jpg")
    photo(root / ".hidden" / "ISIC_1.jpg")
    assert "HAM10000_images_part_1" in opened(root).records["path"]["ISIC_1"]


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    kaggle(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "data").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real", target_is_directory=True)
    assert len(opened(tmp_path / "linked")) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((ROWS[0], ROWS[0], ROWS[1]), "ISIC_3 more than once"),
        ((ROWS[0].replace("HAM_2", ""),), r"row 1 \(image ISIC_3\) has no lesion_id"),
        ((ROWS[0].replace("ISIC_3", ""),), "has no image_id"),
        ((ROWS[0].replace("mel", "wart"),), "ISIC_3 the unknown diagnosis 'wart'.*akiec, bcc"),
        ((ROWS[0].replace("mel", ""),), "ISIC_3 the unknown diagnosis ''"),
        ((ROWS[1], ROWS[2].replace("nv", "mel")), "lesion HAM_1 two diagnoses: mel, nv"),
        (("HAM_7,ISIC_8,nv,,,,", "HAM_7,ISIC_7,nv,,,,"), "2 of the 2 .* the first is ISIC_8"),
        ((), "a header and no rows"),
    ],
)
def test_wrong_metadata_is_refused_with_the_row(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(kaggle(tmp_path, rows))


@pytest.mark.parametrize("column", ["lesion_id", "image_id", "dx"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"lacks the column '{column}'"):
        opened(kaggle(tmp_path, header=HEADER.replace(column, "other")))


def test_an_absent_an_empty_and_an_unknown_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "none")
    with pytest.raises(DataError, match="is empty"):
        opened(tmp_path)
    photo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"no metadata.*HAM10000_metadata.*ISIC 2018.*PAD-UFES-20"):
        opened(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        opened(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "metadata.csv"])
def test_an_empty_table_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name} is empty"):
        opened(tmp_path)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "HAM10000_metadata.csv").write_bytes(b"\xff\xfe\x00binary\n\x80")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        opened(tmp_path)


def test_two_data_sets_in_one_folder_are_refused_by_name(tmp_path: Path) -> None:
    kaggle(tmp_path / "a")
    kaggle(tmp_path / "b")
    with pytest.raises(DataError, match=r"several data sets: a/HAM10000_metadata, b/HAM10000_meta"):
        opened(tmp_path)


def test_a_split_that_lies_beside_the_metadata_is_not_metadata(tmp_path: Path) -> None:
    root = kaggle(tmp_path, name="table.csv")
    (root / "split.csv").write_text("image_id,lesion_id,dx,part\nISIC_1,HAM_1,nv,train\n")
    assert len(opened(root)) == 3


ONE_HOT = (
    "ISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
    "ISIC_2,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
    "ISIC_3,0.0,0.0,0.0,0.0,0.0,0.0,1.0\n"
)


def test_one_hot_truth_takes_its_lesions_from_the_groupings(tmp_path: Path) -> None:
    groups = "ISIC_1,HAM_1,histo\nISIC_2,HAM_1,histo\nISIC_3,HAM_9,histo\nISIC_4,HAM_9,histo\n"
    dataset = opened(isic(tmp_path, ONE_HOT, groups))
    assert dataset.name == "ISIC2018"
    assert list(dataset.records["dx"]) == ["nv", "nv", "vasc"]
    assert list(dataset.records["lesion_id"]) == ["HAM_1", "HAM_1", "HAM_9"]


def test_one_hot_truth_without_groupings_has_a_lesion_an_image(tmp_path: Path) -> None:
    records = opened(isic(tmp_path, ONE_HOT)).records
    assert list(records["lesion_id"]) == list(records.index)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ISIC_2,0.0,0.0,0.0,0.0,0.0,0.0,0.0", "ISIC_2 exactly one 1"),
        ("ISIC_2,1.0,1.0,0.0,0.0,0.0,0.0,0.0", "ISIC_2 exactly one 1"),
        ("ISIC_2,0.5,0.5,0.0,0.0,0.0,0.0,0.0", "ISIC_2 exactly one 1"),
        ("ISIC_2,1.0,,0.0,0.0,0.0,0.0,0.0", "ISIC_2 exactly one 1"),
        ("ISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0", "ISIC_1 more than once"),
    ],
)
def test_a_wrong_one_hot_row_is_refused(tmp_path: Path, row: str, message: str) -> None:
    first, _, last = ONE_HOT.splitlines()
    with pytest.raises(DataError, match=message):
        opened(isic(tmp_path, "\n".join((first, row, last, ""))))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("ISIC_1,HAM_1,h\nISIC_3,HAM_9,h\n", "no lesion for image ISIC_2"),
        ("ISIC_1,A,h\nISIC_2,A,h\nISIC_3,A,h\n", "lesion A two diagnoses: nv, vasc"),
        ("ISIC_1,A,h\nISIC_1,B,h\nISIC_2,A,h\nISIC_3,C,h\n", "image ISIC_1 two lesions"),
    ],
)
def test_wrong_lesion_groups_are_refused(tmp_path: Path, groups: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(isic(tmp_path, ONE_HOT, groups))


def test_a_class_of_the_recipe_without_a_column_is_refused(tmp_path: Path) -> None:
    taxonomy = Taxonomy(classes=(*TAXONOMY.classes, "scc"))
    with pytest.raises(DataError, match="lacks the column 'SCC'"):
        open_dataset(isic(tmp_path, ONE_HOT), taxonomy)


def test_a_truncated_jpeg_is_found_and_named(tmp_path: Path) -> None:
    root = kaggle(tmp_path)
    done: list[tuple[int, int]] = []
    check_images(opened(root), lambda *call: done.append(call))
    assert done == [(1, 3), (2, 3), (3, 3)]
    victim = root / "ham10000_IMAGES_part_2" / "ISIC_2.jpg"
    victim.write_bytes(victim.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"ISIC_2\.jpg is truncated or corrupt.*download it again"):
        check_images(opened(root))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\nbroken chunk here"])
def test_a_file_that_is_no_image_is_found(tmp_path: Path, content: bytes) -> None:
    root = kaggle(tmp_path)
    (root / "HAM10000_images_part_1" / "ISIC_1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"ISIC_1\.jpg is truncated or corrupt"):
        check_images(opened(root))


def test_fingerprint_is_of_labels_and_groups_and_not_of_the_place(tmp_path: Path) -> None:
    here = opened(kaggle(tmp_path / "a"))
    there = opened(kaggle(tmp_path / "b", ROWS[::-1]))
    lines = "ISIC_1,nv,HAM_1\nISIC_2,nv,HAM_1\nISIC_3,mel,HAM_2\n"
    assert here.fingerprint() == there.fingerprint() == hashlib.sha256(lines.encode()).hexdigest()
    moved = (ROWS[0].replace("HAM_2", "HAM_3"), *ROWS[1:])
    assert opened(kaggle(tmp_path / "c", moved)).fingerprint() != here.fingerprint()


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_the_shared_ham10000_opens_as_its_own_table_says() -> None:
    dataset = opened(SHARED / "HAM10000")
    with (SHARED / "HAM10000" / "HAM10000_metadata.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    records = dataset.records
    assert set(records.index) == set(rows)
    assert records["dx"].to_dict() == {i: row["dx"] for i, row in rows.items()}
    assert records["lesion_id"].to_dict() == {i: row["lesion_id"] for i, row in rows.items()}
    assert all(Path(path).stem == i for i, path in records["path"].items())
    assert all(Path(mask).name == f"{i}_segmentation.png" for i, mask in records["mask"].items())
    assert pd.api.types.is_float_dtype(records["age"])
