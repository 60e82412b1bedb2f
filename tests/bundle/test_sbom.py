"""The bill of materials: valid by CycloneDX's own schema, and true of the files beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tiny_bundle import make_bundle

from classkinfy_export import __version__, recipes
from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import export, quantize, sbom
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.recipes import ExportRecipe

FILE = "sbom.cdx.json"
INT8 = "static_wi8_ai8"
CLASSIFY, GRADER, FUSED = (f"models/onnx/{n}.onnx" for n in ("classify", "grade_mel", "pipeline"))
CLASSIFY_INT8 = f"models/onnx/classify.{INT8}.onnx"
HAM10000 = {
    "name": "HAM10000",
    "images": "6011",
    "fingerprint": "27" * 32,
    "members": "",
    "split_sha256": "d6" * 32,
}


def trained(manifest: Manifest, **changed: str) -> Manifest:
    """Return a manifest whose checkpoints tell of the data that they were trained on."""
    provenance = manifest.provenance.model_copy(update={"data": HAM10000 | changed})
    return manifest.model_copy(update={"provenance": provenance})


def components(bill: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {part["bom-ref"]: part for part in bill["components"] if part["type"] == kind}


def needs(bill: dict[str, Any], ref: str) -> set[str]:
    return set(next(d.get("dependsOn", ()) for d in bill["dependencies"] if d["ref"] == ref))


def sha256(part: dict[str, Any]) -> str:
    (found,) = part["hashes"]
    assert found["alg"] == "SHA-256"
    return str(found["content"])


@pytest.fixture
def bill(quantised_bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Bundle.open(quantised_bundle).read(FILE))
    return content


def test_it_is_valid_by_the_official_schema(quantised_bundle: Path, tmp_path: Path) -> None:
    told = trained(make_bundle(tmp_path / "tiny").manifest)
    assert told.weights_licence == "CC BY-NC 4.0", "this is no name that SPDX has"
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for written in ((quantised_bundle / FILE).read_bytes(), sbom.bill_of_materials(told)):
        assert validator.validate_str(written.decode()) is None


def test_every_model_file_is_in_it_with_the_hash_of_its_bytes(
    bill: dict[str, Any], quantised_bundle: Path
) -> None:
    listed = components(bill, "machine-learning-model")
    found = {ref: sha256(part) for ref, part in listed.items() if "scope" not in part}
    suffixes = (".onnx", ".tflite", ".safetensors")
    files = [p for p in (quantised_bundle / "models").rglob("*") if p.suffix in suffixes]
    assert found == {
        path.relative_to(quantised_bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    assert needs(bill, "bundle") == found.keys()


def test_checkpoints_have_the_hashes_of_the_weights_that_were_given(
    bill: dict[str, Any], checkpoints: Callable[[str], Sources]
) -> None:
    given = checkpoints("trunk")
    assert given.screen is not None
    wanted = {"screen": given.screen, "classify": given.classifier}
    wanted |= {f"grade_{dx}": grader for dx, grader in given.graders.items()}
    listed = components(bill, "machine-learning-model")
    found = {ref: sha256(part) for ref, part in listed.items() if part.get("scope") == "excluded"}
    assert found == {f"checkpoint:{stage}": one.sha256 for stage, one in wanted.items()}


def test_a_file_is_made_from_its_own_stages_weights(bill: dict[str, Any]) -> None:
    every = {part for part in needs(bill, FUSED) if part.startswith("checkpoint:")}
    assert len(every) == 5
    for path, weights, runtime in (
        (CLASSIFY, {"checkpoint:classify"}, "onnxruntime"),
        (GRADER, {"checkpoint:grade_mel"}, "onnxruntime"),
        ("models/onnx/prepare.onnx", set(), "onnxruntime"),
        ("models/pytorch/classify.safetensors", {"checkpoint:classify"}, "torch"),
        ("models/litert/main.tflite", every, "ai-edge-litert"),
    ):
        assert needs(bill, path) == {*weights, f"runtime:{runtime}"}, path


def test_what_photos_rounded_tells_of_them_and_float_files_do_not(
    bill: dict[str, Any], quantised_bundle: Path
) -> None:
    photos = components(bill, "data")["data:calibration"]
    manifest = Bundle.open(quantised_bundle).manifest
    assert manifest.calibration is not None
    assert sha256(photos) == manifest.calibration.sha256
    listed = components(bill, "machine-learning-model")
    rounded = {ref for ref in listed if "data:calibration" in needs(bill, ref)}
    assert rounded == {ref for ref in listed if f".{INT8}." in ref}
    assert CLASSIFY_INT8 in rounded


def test_training_data_are_known_by_their_hash(quantised_bundle: Path) -> None:
    manifest = trained(Bundle.open(quantised_bundle).manifest)
    bill = json.loads(sbom.bill_of_materials(manifest))
    data = components(bill, "data")["data:training"]
    assert (data["name"], sha256(data)) == ("HAM10000", HAM10000["fingerprint"])
    told = {entry["name"]: entry["value"] for entry in data["properties"]}
    assert told == {"classkinfy:images": "6011", "classkinfy:split_sha256": "d6" * 32}
    assert needs(bill, "checkpoint:classify") == {"data:training"}


@pytest.mark.parametrize("fingerprint", ["release of May", "27" * 31, "XY" * 32, ""])
def test_what_is_no_hash_is_told_as_text(fingerprint: str, tmp_path: Path) -> None:
    manifest = trained(make_bundle(tmp_path / "tiny").manifest, fingerprint=fingerprint)
    provenance = manifest.provenance.model_copy(update={"checkpoints": {"classify": fingerprint}})
    text = sbom.bill_of_materials(manifest.model_copy(update={"provenance": provenance})).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    data = components(found, "data")["data:training"]
    weights = components(found, "machine-learning-model")["checkpoint:classify"]
    for part, name in ((data, "fingerprint"), (weights, "weights")):
        told = {entry["name"]: entry["value"] for entry in part.get("properties", ())}
        assert "hashes" not in part
        assert told.get(f"classkinfy:{name}", "") == fingerprint


def test_the_recipe_of_the_training_is_known_by_its_hash_also_once_quantised(
    tmp_path: Path,
) -> None:
    alone = ("formats=[pytorch]", "golden=false")
    recipe = recipes.load("export/mobile.yaml", ExportRecipe, alone)
    made = export.export(Sources.from_run(SHIPPED), recipe, tmp_path / "bundle")
    again = quantize.quantize(made, tmp_path / "again", ["fp16"]).bundle
    wanted = hashlib.sha256((SHIPPED / "recipe.json").read_bytes()).hexdigest()
    for bundle in (made, again):
        assert bundle.manifest.provenance.training_recipe_sha256 == wanted
        listed = components(json.loads(bundle.read(FILE)), "machine-learning-model")
        told = {"name": "classkinfy:recipe_sha256", "value": wanted}
        for part in listed.values():
            assert part.get("properties") == [told] or "scope" not in part


def test_tools_are_those_that_are_installed(bill: dict[str, Any]) -> None:
    tools = bill["metadata"]["tools"]["components"]
    found = {tool["name"]: tool["version"] for tool in tools}
    assert found.pop("classkinfy-export") == __version__
    assert found == {name: importlib.metadata.version(name) for name in found}
    assert {"torch", "onnx", "onnxscript", "litert-torch", "ai-edge-quantizer"} <= found.keys()
    assert {"numpy", "pillow", "scipy", "cyclonedx-python-lib"} <= found.keys()


def test_the_bundle_bears_the_licence_of_its_weights(
    bill: dict[str, Any], quantised_bundle: Path
) -> None:
    top = bill["metadata"]["component"]
    licence = Bundle.open(quantised_bundle).manifest.weights_licence
    assert (top["name"], top["licenses"]) == ("small", [{"license": {"name": licence}}])
    known = Bundle.open(quantised_bundle).manifest.model_copy(
        update={"weights_licence": "CC-BY-NC-4.0"}
    )
    top = json.loads(sbom.bill_of_materials(known))["metadata"]["component"]
    assert top["licenses"] == [{"license": {"id": "CC-BY-NC-4.0"}}]


def test_it_has_no_time_and_its_number_is_of_what_it_says(tmp_path: Path) -> None:
    manifest = make_bundle(tmp_path / "tiny").manifest
    written = [sbom.bill_of_materials(m) for m in (manifest, manifest, trained(manifest))]
    assert written[0] == written[1]
    assert b"timestamp" not in written[0]
    first, other = (json.loads(text)["serialNumber"] for text in written[1:])
    assert first.startswith("urn:uuid:")
    assert first != other


def test_signing_leaves_it_as_it_is_and_vouches_for_it(trunk_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.ckb"
    writer.pack(trunk_bundle, archive)
    signature.generate(tmp_path / "key.pem")
    signed = writer.sign(Bundle.open(archive), tmp_path / "key.pem")
    assert signed.signer is not None
    assert signed.read(FILE) == (trunk_bundle / FILE).read_bytes()
