"""The bill of materials, as CycloneDX has it: what a bundle is made of, and what it was made from.

::

    bundle ── model files ─┬─ runtime
                           ├─ checkpoints ── training data
                           └─ calibration photos, where a file is rounded by them
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from classkinfy_export import files
from classkinfy_export.bundle.manifest import PIPELINE, Manifest
from classkinfy_export.contract import FormatName
from classkinfy_export.precision import rounded_by_photos

_TOOLKIT = "classkinfy-export"
_RUNTIMES: dict[FormatName, str] = {
    "pytorch": "torch",
    "onnx": "onnxruntime",
    "litert": "ai-edge-litert",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Sorted = dict[str, Component]


def bill_of_materials(manifest: Manifest) -> bytes:
    """Write the bill in JSON: the same manifest gives the same bytes, without a time.

    Args:
        manifest: the bundle's, before the bill is pinned in it.
    """
    bom = Bom()
    bom.metadata.component = bundle = Component(
        name=manifest.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        description=manifest.disclaimer,
        licenses=[_licence(manifest)],
    )
    versions = {_TOOLKIT: manifest.provenance.toolkit, **manifest.provenance.versions}
    bom.metadata.tools = ToolRepository(
        components=[_package(name, versions, "tool") for name in versions]
    )
    models, runtimes = _models(manifest), _runtimes(manifest, versions)
    checkpoints, training = _checkpoints(manifest), _training(manifest)
    calibration = _calibration(manifest)
    for part in (models, runtimes, checkpoints, training, calibration):
        bom.components.update(part.values())
    bom.register_dependency(bundle, models.values())
    for path, model in models.items():
        bom.register_dependency(
            model,
            [
                *(runtimes[model.format] for model in manifest.models if model.path == path),
                *(checkpoints[stage] for stage in _stages(manifest, path)),
                *(calibration.values() if _rounded(manifest, path) else ()),
            ],
        )
    for checkpoint in checkpoints.values():
        bom.register_dependency(checkpoint, training.values())
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    del content["metadata"]["timestamp"], content["serialNumber"]  # when, and a random number
    name = uuid.uuid5(uuid.NAMESPACE_OID, files.to_json(content))
    return files.to_json({**content, "serialNumber": name.urn}).encode()


def _models(manifest: Manifest) -> _Sorted:
    found = {}
    for path in dict.fromkeys(model.path for model in manifest.models):
        held = [model for model in manifest.models if model.path == path]
        found[path] = Component(
            name=path,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=path,
            hashes=_hashes(manifest.files[path].sha256),
            licenses=[_licence(manifest)],
            properties=_properties(
                format=held[0].format,
                precisions=" ".join(model.precision for model in held),
                stages=" ".join(held[0].entries),
            ),
        )
    return found


def _runtimes(manifest: Manifest, versions: dict[str, str]) -> _Sorted:
    formats = {model.format for model in manifest.models}
    return {form: _package(_RUNTIMES[form], versions, "runtime") for form in sorted(formats)}


def _checkpoints(manifest: Manifest) -> _Sorted:
    return {
        stage: Component(
            name=stage,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"checkpoint:{stage}",
            description="A checkpoint. The hash is over names, shapes and bytes of its weights.",
            scope=ComponentScope.EXCLUDED,
            hashes=_hashes(digest),
            licenses=[_licence(manifest)],
            properties=_properties(
                recipe_sha256=manifest.provenance.training_recipe_sha256 or "",
                weights="" if _hashes(digest) else digest,
            ),
        )
        for stage, digest in manifest.provenance.checkpoints.items()
    }


def _training(manifest: Manifest) -> _Sorted:
    data = dict(manifest.provenance.data)
    if not data:
        return {}
    name, hashes = data.pop("name", "training data"), _hashes(data.get("fingerprint", ""))
    if hashes:
        del data["fingerprint"]
    return {
        "training": Component(
            name=name,
            type=ComponentType.DATA,
            bom_ref="data:training",
            description="What the checkpoints were trained on. The hash is over the sorted lines "
            "'image_id,dx,lesion_id'.",
            scope=ComponentScope.EXCLUDED,
            hashes=hashes,
            properties=_properties(**data),
        )
    }


def _calibration(manifest: Manifest) -> _Sorted:
    photos = manifest.calibration
    if photos is None:
        return {}
    told = {"images": photos.images, "seed": photos.seed, "split_sha256": photos.split_sha256}
    return {
        "calibration": Component(
            name="calibration photos",
            type=ComponentType.DATA,
            bom_ref="data:calibration",
            description="What int8 was rounded and calibrated on. The hash is over the photos' "
            "hashes, in the order in which they were used.",
            scope=ComponentScope.EXCLUDED,
            hashes=_hashes(photos.sha256),
            properties=_properties(**{k: str(v) for k, v in told.items() if v is not None}),
        )
    }


def _package(name: str, versions: dict[str, str], kind: str) -> Component:
    version = versions.get(name)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{kind}:{name}",
        purl=PackageURL("pypi", None, name, version),
        # An app takes one of the runtimes, and may take it from another registry than PyPI.
        scope=ComponentScope.OPTIONAL if kind == "runtime" else None,
    )


def _stages(manifest: Manifest, path: str) -> Iterator[str]:
    """Give the stages whose weights are in a file."""
    model = next(model for model in manifest.models if model.path == path)
    # Weights alone are of one stage, whatever is assembled around them.
    fused = PIPELINE in model.entries and model.format != "pytorch"
    for stage in manifest.provenance.checkpoints:
        if fused or stage in model.entries:
            yield stage


def _rounded(manifest: Manifest, path: str) -> bool:
    """Whether photos had a say in a file; one that holds nothing to round is its float twin."""
    return any(
        model.path == path and rounded_by_photos(model.precision) and f".{model.precision}." in path
        for model in manifest.models
    )


def _licence(manifest: Manifest) -> DisjunctiveLicense:
    named = manifest.weights_licence
    known = is_supported_id(named)
    return DisjunctiveLicense(id=named if known else None, name=None if known else named)


def _hashes(digest: str) -> list[HashType]:
    """Return a SHA-256 as a component has it; none of a text that is no SHA-256."""
    if not _SHA256.fullmatch(digest):
        return []
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]


def _properties(**told: str) -> Iterable[Property]:
    return [Property(name=f"classkinfy:{key}", value=value) for key, value in told.items() if value]
