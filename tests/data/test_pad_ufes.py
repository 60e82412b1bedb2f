"""PAD-UFES-20 opens with HAM10000's diagnoses, grouped by patient."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from classkinfy_export.data.dataset import Dataset, check_images, open_dataset
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HEADER = "patient_id,lesion_id,img_id,diagnostic,age,gender,region"
ROWS = (
    "PAT_1,10,PAT_1_10_1.png,ACK,50,FEMALE,FACE",
    "PAT_1,11,PAT_1_11_2.png,SCC,50,FEMALE,NOSE",
    "PAT_2,10,PAT_2_10_3.png,BCC,61,,ARM",
    "PAT_3,12,PAT_3_12_4.png,MEL,,MALE,",
    "PAT_4,13,PAT_4_13_5.png,NEV,30,MALE,BACK",
    "PAT_5,14,PAT_5_14_6.png,SEK,70,MALE,BACK",
)


def folder(root: Path, rows: tuple[str, ...] = ROWS, header: str = HEADER) -> Path:
    (root / "metadata.csv").write_text("\n".join((header, *rows, "")), encoding="utf-8")
    for number, row in enumerate(ROWS):
        path = root / "images" / f"imgs_part_{number % 3 + 1}" / row.split(",")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return root


def opened(root: Path) -> Dataset:
    return open_dataset(root, Taxonomy())


def test_diagnoses_are_mapped_and_patients_are_the_groups(tmp_path: Path) -> None:
    dataset = opened(folder(tmp_path))
    records = dataset.records
    assert dataset.name == "PAD-UFES-20"
    assert records["dx"].to_dict() == {
        "PAT_1_10_1": "akiec",
        "PAT_1_11_2": "akiec",
        "PAT_2_10_3": "bcc",
        "PAT_3_12_4": "mel",
        "PAT_4_13_5": "nv",
        "PAT_5_14_6": "bkl",
    }
    assert list(records["lesion_id"]) == ["PAT_1", "PAT_1", "PAT_2", "PAT_3", "PAT_4", "PAT_5"]
    assert (records["sex"].iloc[0], records["site"].iloc[0]) == ("female", "face")
    assert (records["sex"].iloc[2], records["site"].iloc[3]) == ("unknown", "unknown")
    assert records["mask"].isna().all()
    check_images(dataset)


def test_a_patient_may_have_two_diagnoses_and_a_lesion_may_not(tmp_path: Path) -> None:
    two = (*ROWS[:5], ROWS[5].replace("PAT_5,14", "PAT_1,14"))
    records = opened(folder(tmp_path, two)).records
    assert set(records.loc[records["lesion_id"] == "PAT_1", "dx"]) == {"akiec", "bkl"}
    same = (*ROWS[:5], ROWS[5].replace("PAT_5,14", "PAT_1,10"))
    with pytest.raises(DataError, match="lesion PAT_1 10 two diagnoses: akiec, bkl"):
        opened(folder(tmp_path, same))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            (ROWS[0].replace("ACK", "XYZ"),),
            r"PAT_1_10_1\.png the unknown diagnosis 'XYZ'.*ACK, SCC",
        ),
        ((ROWS[0], ROWS[0]), "PAT_1_10_1 more than once"),
        ((ROWS[0].replace("PAT_1,", ",", 1),), "has no lesion_id"),
        ((ROWS[0].replace("_1.png", "_9.png"),), "1 of the 1 .* the first is PAT_1_10_9"),
        ((), "a header and no rows"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(folder(tmp_path, rows))


@pytest.mark.parametrize("column", ["patient_id", "lesion_id", "img_id", "diagnostic"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"lacks the column '{column}'"):
        opened(folder(tmp_path, header=HEADER.replace(column, "other")))


def test_a_taxonomy_without_its_classes_is_refused(tmp_path: Path) -> None:
    taxonomy = Taxonomy(classes=("mel", "nv"), graded=("mel",), malignant=("mel",))
    with pytest.raises(DataError, match=r"unknown diagnosis 'akiec'.*allowed are mel, nv"):
        open_dataset(folder(tmp_path), taxonomy)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_the_shared_pad_ufes_opens_with_the_counts_of_its_table() -> None:
    dataset = opened(SHARED / "PAD-UFES-20")
    with (SHARED / "PAD-UFES-20" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    raw = Counter(row["diagnostic"] for row in rows)
    expected = {"akiec": raw["ACK"] + raw["SCC"], "bcc": raw["BCC"], "mel": raw["MEL"]}
    expected |= {"nv": raw["NEV"], "bkl": raw["SEK"]}
    assert Counter(dataset.records["dx"]) == expected
    patients = {row["img_id"].rsplit(".", 1)[0]: row["patient_id"] for row in rows}
    assert dataset.records["lesion_id"].to_dict() == patients
    check_images(dataset)
