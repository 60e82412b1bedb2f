"""Several data sets as one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from classkinfy_export.data import splits
from classkinfy_export.data.dataset import Dataset, join, open_dataset
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.taxonomy import Taxonomy


def dermoscopic(root: Path, prefix: str = "ISIC", lesions: str = "HAM") -> Dataset:
    root.mkdir()
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for n in range(20):
        rows.append(
            f"{lesions}_{n // 2},{prefix}_{n},{'mel' if n < 10 else 'nv'},histo,50,male,back"
        )
        Image.new("RGB", (8, 8)).save(root / f"{prefix}_{n}.png")
    (root / "HAM10000_metadata.csv").write_text("\n".join(rows) + "\n")
    return open_dataset(root, Taxonomy())


def smartphone(root: Path) -> Dataset:
    root.mkdir()
    rows = ["patient_id,lesion_id,img_id,diagnostic,age,gender,region"]
    for n in range(10):
        rows.append(f"PAT_{n},{n},PAT_{n}.png,{'MEL' if n < 5 else 'NEV'},50,FEMALE,FACE")
        Image.new("RGB", (8, 8)).save(root / f"PAT_{n}.png")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return open_dataset(root, Taxonomy())


def test_a_join_has_every_record_of_both_and_can_be_split(tmp_path: Path) -> None:
    both = dermoscopic(tmp_path / "a"), smartphone(tmp_path / "b")
    joined = join(both)
    assert joined.name == "HAM10000 + PAD-UFES-20"
    assert joined.members == both
    assert joined.records.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(joined.records, pd.concat([d.records for d in both]).sort_index())
    assert joined.fingerprint() not in [member.fingerprint() for member in both]
    parts = splits.split(joined, SplitRecipe())
    assert not (parts.groupby("lesion_id")["part"].nunique() > 1).any()
    assert join(both[:1]) is both[0]


def test_the_split_of_a_join_serves_each_of_its_members(tmp_path: Path) -> None:
    both = dermoscopic(tmp_path / "a"), smartphone(tmp_path / "b")
    made = splits.split(join(both), SplitRecipe())
    splits.write(made, tmp_path / "split.csv")
    for member in both:
        with pytest.raises(DataError, match="that are not in"):
            splits.read(tmp_path / "split.csv", member)
        read = splits.read(tmp_path / "split.csv", member, of_more=True)
        assert read["part"].to_dict() == made.loc[member.records.index, "part"].to_dict()


def test_an_image_or_a_lesion_in_two_data_sets_is_refused(tmp_path: Path) -> None:
    first = dermoscopic(tmp_path / "a")
    with pytest.raises(DataError, match="image ISIC_0 is in two"):
        join((first, first))
    with pytest.raises(DataError, match="lesion HAM_0 is in two"):
        join((first, dermoscopic(tmp_path / "b", prefix="OTHER")))
