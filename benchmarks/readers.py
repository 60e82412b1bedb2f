"""What reads bytes that anyone may have made: each with valid files, and how to make them wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutation
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fuzzed import Made, Reader

from classkinfy_export import frame, recipes
from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.manifest import MANIFEST, SEAL, SIGNATURE, FileEntry, Manifest
from classkinfy_export.bundle.parsing import parsing
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.recipes import ExportRecipe, TrainRecipe
from classkinfy_export.taxonomy import Taxonomy

ROOT = Path(__file__).parent.parent
CAPTURE = Capture(height=45, width=60)
KEY = ec.derive_private_key(0xC1A55, ec.SECP256R1())
"""The same in every run, so that its cases are."""


class Memory:
    """A bundle's files, nowhere but here."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return list(self._files)

    def size(self, name: str) -> int:
        return len(self._files[name])

    def read(self, name: str) -> bytes:
        return self._files[name]


def pinned(manifest: Manifest, files: dict[str, bytes]) -> Bundle:
    """Return a bundle whose files match their hashes, however wrong they are."""
    entries = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in files.items()
    }
    held = manifest.model_copy(update={"files": entries})
    return Bundle(Path("bundle"), Memory(files), held, "0" * 64)


def one_of(seeds: list[bytes], change: mutation.Change) -> Callable[[random.Random], bytes]:
    return lambda rng: change(rng.choice(seeds), rng)


def manifest(bundle: Path, folder: Path) -> Reader:
    data = (bundle / MANIFEST).read_bytes()
    return Reader(
        one_of([data], mutation.json_bytes), lambda case: Manifest.from_bytes(case, "manifest.json")
    )


def _small(bundle: Path, folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle whose models are a few bytes, signed."""
    small = folder / "small"
    small.mkdir()
    whole = Manifest.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST)
    paths = {path for model in whole.models for path in (model.path, model.ranges) if path}
    for path in sorted(paths):
        (small / path).parent.mkdir(parents=True, exist_ok=True)
        (small / path).write_text(path)
    (small / "MODEL_CARD.md").write_text("# A card")
    writer.seal(small, whole.model_copy(update={"files": writer.pin(small)}))
    private = folder / "key.pem"
    private.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    signed = writer.sign(Bundle.open(small), private)
    writer.add_evidence(signed, "parity", {"images": 1})
    return {
        path.relative_to(small).as_posix(): path.read_bytes()
        for path in sorted(small.rglob("*"))
        if path.is_file()
    }


def _resealed(files: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """Change the manifest, and seal what became of it: it is read on past its seal."""
    changed = mutation.json_bytes(files[MANIFEST], rng)
    seal = f"{hashlib.sha256(changed).hexdigest()}  {MANIFEST}\n".encode()
    rest = {name: data for name, data in files.items() if name != SIGNATURE}
    return rest | {MANIFEST: changed, SEAL: seal}


def _opened(path: Path) -> None:
    """Open a bundle, and hold what is read to what is pinned."""
    bundle = Bundle.open(path)
    bundle.evidence()
    for name, entry in bundle.manifest.files.items():
        if hashlib.sha256(bundle.read(name)).hexdigest() != entry.sha256:
            raise AssertionError(f"{name} is not what the manifest pins")


def archive(bundle: Path, folder: Path) -> Reader:
    files = _small(bundle, folder)
    path = folder / "case.ckb"

    def packed(of: dict[str, bytes]) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as zipped:
            for name, data in of.items():
                zipped.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
        return made.getvalue()

    whole = packed(files)

    def case(rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return packed(_resealed(files, rng))
        return mutation.zip_bytes(whole, rng)

    def read(case: bytes) -> None:
        path.write_bytes(case)
        _opened(path)

    return Reader(case, read)


def directory(bundle: Path, folder: Path) -> Reader:
    files = _small(bundle, folder)
    root = folder / "case"
    outside = folder / "outside"
    outside.write_bytes(b"outside")

    def case(rng: random.Random) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
        of = _resealed(files, rng) if rng.random() < 0.5 else dict(files)
        done = []
        for _ in range(rng.choice((0, 1, 1, 3))):
            name = rng.choice(list(of))
            kind = rng.choice(("bytes", "gone", "link", "inside", "loop", "folder", "pipe", "case"))
            if kind == "bytes":
                of[name] = mutation.some_bytes(of[name], rng)
            done.append((name, kind))
        return of, done

    def read(case: tuple[dict[str, bytes], list[tuple[str, str]]]) -> None:
        shutil.rmtree(root, ignore_errors=True)
        for name, data in case[0].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        for name, kind in case[1]:
            path = root / name
            if kind == "bytes" or not path.is_file() or path.is_symlink():
                continue
            moved = path.with_name(path.name + ".kept")
            path.rename(moved)
            if kind == "link":
                path.symlink_to(outside)
            elif kind == "inside":
                path.symlink_to(moved.name)
            elif kind == "loop":
                path.symlink_to(path.name)
            elif kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "case":
                moved.rename(path.with_name(path.name.upper()))
        _opened(root)

    return Reader(case, read)


def signed(bundle: Path, folder: Path) -> Reader:
    files = _small(bundle, folder)
    whole = json.loads(files[SIGNATURE])

    def case(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutation.json_bytes(files[SIGNATURE], rng)
        field = rng.choice(("public_key", "signature"))
        changed = mutation.some_bytes(base64.b64decode(whole[field]), rng)
        return json.dumps(whole | {field: base64.b64encode(changed).decode()}).encode()

    return Reader(case, lambda case: signature.signer(files[MANIFEST], case, "bundle"))


def key(bundle: Path, folder: Path) -> Reader:
    path = folder / "case.pem"
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, kind)
    der = KEY.public_key().public_bytes(serialization.Encoding.DER, kind)

    def case(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutation.some_bytes(public, rng)
        body = base64.b64encode(mutation.some_bytes(der, rng))
        return b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n"

    def read(case: bytes) -> str:
        path.write_bytes(case)
        return signature.read_public(path)

    return Reader(case, read)


def image(bundle: Path, folder: Path) -> Reader:
    import pictures

    seeds = pictures.seeds()
    return Reader(lambda rng: pictures.changed(seeds, rng), lambda case: frame.frame(case, CAPTURE))


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return mutation.some_bytes(data, rng)
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.5:
        seal, _, info = header["__metadata__"]["classkinfy"].partition("\n")
        changed = mutation.json_bytes(info.encode(), rng).decode("utf-8", "replace")
        header["__metadata__"]["classkinfy"] = f"{seal}\n{changed}"
    else:
        header = mutation.document(header, rng)
    written = mutation.to_json(header, rng)
    return len(written).to_bytes(8, "little") + written + body


def weights(bundle: Path, folder: Path) -> Reader:
    from classkinfy_export.stages import checkpoint

    held = sorted((bundle / "models/pytorch").iterdir(), key=lambda path: path.stat().st_size)
    seeds = [path.read_bytes() for path in held[:2]]
    return Reader(
        one_of(seeds, _safetensors), lambda case: checkpoint.from_bytes(case, "case.safetensors")
    )


def _pth(data: bytes, rng: random.Random) -> bytes:
    """Change an archive, or the pickle in it with its checksum right."""
    if rng.random() < 0.4:
        return mutation.zip_bytes(data, rng)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(written, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("data.pkl"):
                content = mutation.some_bytes(content, rng)
            new.writestr(info.filename, content)
    return written.getvalue()


def pickled(bundle: Path, folder: Path) -> Reader:
    import torch

    from classkinfy_export.stages import origin

    path = folder / "case.pth"
    contents: tuple[dict[str, Any], ...] = (
        {"classifier.weight": torch.zeros(7, 4), "classifier.bias": torch.zeros(7)},
        {
            "model_state_dict": {"classifier.weight": torch.zeros(7, 4).t(), "x": torch.ones(3)},
            "label_map": dict(zip(Taxonomy().classes, range(7), strict=True)),
            "val_acc": np.float64(0.8),
        },
    )
    seeds = []
    for content in contents:
        torch.save(content, path)
        seeds.append(path.read_bytes())

    def read(case: bytes) -> object:
        path.write_bytes(case)
        return origin.load_classifier(path, Taxonomy(), "unknown")

    return Reader(one_of(seeds, _pth), read)


def recipe(bundle: Path, folder: Path) -> Reader:
    path = folder / "case.yaml"
    kinds: dict[str, type[ExportRecipe] | type[TrainRecipe]] = {
        "export": ExportRecipe,
        "train": TrainRecipe,
    }
    seeds = [
        (one.read_bytes(), kind) for name, kind in kinds.items() for one in ROOT.glob(f"{name}/*")
    ]
    seeds = sorted((s for s in seeds if b":" in s[0]), key=lambda seed: seed[0])

    def case(rng: random.Random) -> tuple[bytes, type[ExportRecipe] | type[TrainRecipe]]:
        data, kind = rng.choice(seeds)
        return mutation.text_bytes(data, rng), kind

    def read(case: tuple[bytes, type[ExportRecipe] | type[TrainRecipe]]) -> object:
        path.write_bytes(case[0])
        return recipes.load(path, case[1])

    return Reader(case, read)


def phones(bundle: Path, folder: Path) -> Reader:
    from classkinfy_export.latency.estimate import phone

    path = folder / "case.yaml"
    held = sorted((ROOT / "classkinfy_export/latency").rglob("phones/*.yaml"))
    seeds = [one.read_bytes() for one in held]

    def read(case: bytes) -> object:
        path.write_bytes(case)
        return phone.load(str(path))

    return Reader(one_of(seeds, mutation.text_bytes), read)


def vectors(bundle: Path, folder: Path) -> Reader:
    """Golden vectors of one small case."""
    from classkinfy_export.parity import golden

    rng = np.random.default_rng(0)
    q = rng.random((1, 4), np.float32)
    shown = rng.integers(0, 256, (1, 24, 32, 3), np.uint8)
    golden.write(folder, iter([("case", shown)]), "rgb", lambda image: {"clean": image, "q": q})
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / golden.FOLDER).iterdir())
    }
    whole = Manifest.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST)

    def case(rng: random.Random) -> dict[str, bytes]:
        name = rng.choice([golden.INDEX] * 3 + list(files))
        change = mutation.json_bytes if name == golden.INDEX else mutation.some_bytes
        if name.endswith(".png"):
            change = mutation.png_bytes
        return files | {name: change(files[name], rng)}

    small = whole.model_copy(update={"capture": Capture(height=24, width=32)})
    return Reader(case, lambda case: golden.read(pinned(small, case)))


def calibrated(bundle: Path, folder: Path) -> Reader:
    from classkinfy_export.parity import ranges

    whole = Manifest.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST)
    name = "case.ranges.json"
    model = whole.models[0].model_copy(update={"ranges": name})
    data = json.dumps({f"classify/{i}": [-0.5 * i, 1.5 * i] for i in range(20)}).encode()

    return Reader(
        one_of([data], mutation.json_bytes),
        lambda case: ranges.calibrated(pinned(whole, {name: case}), model),
    )


def _models(bundle: Path, data: bytes, stage: str, form: str) -> Callable[[bytes], None]:
    """Return what reads a model file in every way in which this toolkit reads one itself."""
    from classkinfy_export.latency.estimate import work
    from classkinfy_export.latency.operators.litert_graph import SignatureGraph
    from classkinfy_export.parity import graphs, ranges

    whole = Manifest.from_bytes((bundle / MANIFEST).read_bytes(), MANIFEST)
    name = f"{stage}.{form}"
    told = json.dumps({f"{stage}/1": [0.0, 1.0]}).encode()
    kept = [model for model in whole.models if model.format == form and model.precision == "fp32"]
    model = kept[0].model_copy(update={"path": name, "entries": {stage: stage}, "ranges": "told"})
    held = whole.model_copy(update={"models": (model,)})

    def walked(case: bytes) -> None:
        with parsing(name):
            graph = SignatureGraph(case, stage)
        graph.parts(())
        graph.placed()

    def read(case: bytes) -> None:
        opened = pinned(held, {name: case, "told": told})
        refusals = []
        for reading in (
            lambda: work.count(opened, stage),
            lambda: graphs.read(opened, model, stage),
            lambda: ranges.ranges(opened, model),
            lambda: walked(case) if form == "litert" else None,
        ):
            try:
                reading()
            except ClasskinfyError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    return read


def onnx(bundle: Path, folder: Path) -> Reader:
    data = (bundle / "models/onnx/prepare.onnx").read_bytes()
    return Reader(one_of([data], mutation.some_bytes), _models(bundle, data, "prepare", "onnx"))


def litert(bundle: Path, folder: Path) -> Reader:
    import importlib

    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers = importlib.import_module("flatbuffers")
    parsed = schema.ModelT.InitFromPackedBuf((bundle / "models/litert/main.tflite").read_bytes(), 0)
    entry = next(s for s in parsed.signatureDefs if s.signatureKey == b"prepare")
    graph = parsed.subgraphs[entry.subgraphIndex]
    # The first operators, and none of the weights: what is parsed is what they are made of.
    graph.operators = graph.operators[:12]
    for buffer in parsed.buffers:
        buffer.data = None if buffer.data is None or len(buffer.data) > 64 else buffer.data
    most = 1 + max(
        *(int(i) for op in graph.operators for i in (*op.inputs, *op.outputs)),
        *(int(t.tensorIndex) for t in (*entry.inputs, *entry.outputs)),
    )
    graph.tensors = graph.tensors[:most]
    parsed.subgraphs, parsed.signatureDefs = [graph], [entry]
    entry.subgraphIndex = 0
    builder = flatbuffers.Builder(2**16)
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    data = bytes(builder.Output())
    return Reader(one_of([data], mutation.some_bytes), _models(bundle, data, "prepare", "litert"))


def upload(bundle: Path, folder: Path) -> Reader:
    """The server over the bundle, in this process."""
    import uploads

    return uploads.server(bundle)


READERS: dict[str, Made] = {
    "manifest": manifest,
    "archive": archive,
    "folder": directory,
    "signature": signed,
    "public key": key,
    "image": image,
    "checkpoint": weights,
    "origin checkpoint": pickled,
    "recipe": recipe,
    "phone": phones,
    "golden vectors": vectors,
    "ranges": calibrated,
    "onnx": onnx,
    "litert": litert,
    "upload": upload,
}
