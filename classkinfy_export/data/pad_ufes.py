"""PAD-UFES-20: smartphone photos of skin lesions, with HAM10000's names for the diagnoses.

Pacheco et al., Data in Brief 32:106221 (2020), doi:10.1016/j.dib.2020.106221. Lesion numbers
repeat between patients, and a patient's lesions were photographed alike, so the group of a split
is the patient: ``lesion_id`` in the records holds the patient, and may have several diagnoses.
"""

from __future__ import annotations

import pandas as pd

from classkinfy_export.data.folder import Folder, Table
from classkinfy_export.data.records import assemble, refuse_two_diagnoses, refuse_unknown
from classkinfy_export.taxonomy import Taxonomy

DX = {"ACK": "akiec", "SCC": "akiec", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SEK": "bkl"}
"""Squamous cell carcinoma goes with actinic keratosis: HAM10000's akiec holds Bowen's disease."""

_REQUIRED = ("patient_id", "lesion_id", "img_id", "diagnostic")


class PADUFES20:
    """``metadata.csv`` and photos anywhere below, for example ``images/imgs_part_1``."""

    name = "PAD-UFES-20"
    description = (
        "PAD-UFES-20: metadata.csv (patient_id, lesion_id, img_id, diagnostic) and .png or .jpg "
        "photos in any sub-folder"
    )

    def claim(self, table: Table, taxonomy: Taxonomy) -> int:
        """Claim a table by its columns."""
        return 2 if {"img_id", "diagnostic"} & set(table.columns) else 0

    def records(self, folder: Folder, table: Table, taxonomy: Taxonomy) -> pd.DataFrame:
        """Return checked records; ``lesion_id`` is the patient.

        Raises:
            DataError: as ``records.assemble``, or a patient's lesion with two diagnoses.
        """
        rows = table.read(_REQUIRED).rename(
            columns={"img_id": "image_id", "gender": "sex", "region": "site"}
        )
        refuse_unknown(rows["diagnostic"], rows["image_id"], DX, table.path)
        rows["dx"] = rows["diagnostic"].map(DX)
        lesion = rows["patient_id"] + " " + rows["lesion_id"]
        rows["lesion_id"] = rows["patient_id"]
        records = assemble(rows, folder, table.path, taxonomy)
        refuse_two_diagnoses(lesion, rows["dx"], table.path)
        return records
