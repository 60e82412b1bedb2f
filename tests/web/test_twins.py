"""What the page computes itself is what Python computes, byte for byte."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from web.twins import packed, run, unpacked

from classkinfy_export import layouts, resampling
from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import QUALITY_MEASURES, Capture, QualityRule
from classkinfy_export.decision import decide
from classkinfy_export.errors import ImageError
from classkinfy_export.frame import frame

SIZES = ((45, 60), (46, 60), (450, 601), (90, 400), (400, 90), (123, 457), (3, 4), (1, 1), (200, 7))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


def rgba(image: np.ndarray) -> np.ndarray:
    return np.concatenate((image, np.full_like(image[..., :1], 255)), axis=-1)


def test_weights_of_a_resize_are_pythons() -> None:
    pairs = [*itertools.product((1, 2, 7, 45, 99, 601), repeat=2), (4032, 600), (60, 4000)]
    given = run(
        "const { taps } = await load('resampling');"
        "return given.pairs.map(([from, to]) => taps(from, to).map(({first, weights}) =>"
        " [first, ...weights]));",
        pairs=pairs,
    )
    for (from_size, to_size), rows in zip(pairs, given, strict=True):
        first, weights = resampling.taps(from_size, to_size)
        for i, row in enumerate(rows):
            padded = row[1:] + [0] * (weights.shape[1] - len(row) + 1)
            assert (row[0], padded) == (first[i], weights[i].tolist()), (from_size, to_size, i)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("layout", ["rgb", "rgba", "nv21"])
def test_photos_are_framed_as_python_frames_them(fit: str, layout: str) -> None:
    capture = Capture(height=46, width=60, layout=layout)  # type: ignore[arg-type]
    body = """
const { frame } = await load("frame");
return given.photos.map(({ width, height, data }) => {
  const all = bytes(data);
  const read = (left, top, wide, high) => {
    const part = new Uint8Array(wide * high * 4);
    for (let y = 0; y < high; y++) {
      const from = 4 * ((top + y) * width + left);
      part.set(all.subarray(from, from + 4 * wide), 4 * y * wide);
    }
    return part;
  };
  const image = frame({ width, height, read }, given.capture, given.fit);
  return { data: text(image.data), shape: image.shape };
});
"""
    photos = [photo(height, width) for height, width in SIZES]
    given = run(
        body,
        fit=fit,
        capture=capture.model_dump(),
        photos=[
            {"height": p.shape[0], "width": p.shape[1], "data": packed(rgba(p))} for p in photos
        ],
    )
    for image, answer in zip(photos, given, strict=True):
        wanted = frame(image, capture, fit)  # type: ignore[arg-type]
        assert answer["shape"] == list(wanted.shape)
        assert unpacked(answer["data"]) == wanted.tobytes(), image.shape


def test_what_is_too_narrow_to_pad_or_transparent_is_refused() -> None:
    with pytest.raises(ImageError, match="too narrow"):
        frame(np.zeros((1, 30_000, 3), np.uint8), Capture(height=60, width=45), "pad")
    body = """
const { frame } = await load("frame");
const told = (make) => { try { make(); return ""; } catch (error) { return `${error}`; } };
const clear = { width: 4, height: 4, read: (l, t, w, h) => new Uint8Array(4 * w * h).fill(254) };
return [
  told(() => frame({ width: 30000, height: 1, read: null }, { height: 60, width: 45 }, "pad")),
  told(() => frame(clear, { height: 4, width: 4, layout: "rgb" }, "crop")),
];
"""
    narrow, clear = run(body)
    assert narrow.startswith("ImageError: A photo of 30000 x 1 pixels is too narrow")
    assert clear.startswith("ImageError: The photo is transparent in places")


def test_nv21_clips_and_rounds_as_python_does() -> None:
    corners = np.array(list(itertools.product((0, 255), repeat=3)), np.uint8).reshape(2, 4, 3)
    rgb = np.repeat(np.repeat(corners, 2, axis=0), 2, axis=1)
    given = run(
        "const { encode } = await load('layouts');"
        "return text(encode(bytes(given.rgb), {height: 4, width: 8, layout: 'nv21'}).data);",
        rgb=packed(rgb),
    )
    assert unpacked(given) == layouts.encode(rgb[None], "nv21").tobytes()


def test_decisions_are_pythons_also_at_the_very_threshold() -> None:
    rules = (
        QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
        QualityRule(measure="sharpness", reason="blurred", below=6.89),
        QualityRule(measure="bright_share", reason="overexposed", above=0.131),
    )
    at = np.float32([0.15, 6.89, 0.5, 0.131])
    near = [np.nextafter(at, np.float32(way)) for way in (-np.inf, np.inf)]
    qualities = [at, *near, np.float32([0.2, 3, 0.5, 0.5]), np.float32([0.0, 99, 0.0, 0.0])]
    rows = [
        (quality, probabilities)
        for quality in qualities
        for probabilities in np.float32([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]])
    ]
    given = run(
        "const { decide } = await load('decision');"
        "return given.rows.map(([q, p]) => decide(Float32Array.from(q), Float32Array.from(p),"
        " given.measures, given.rules));",
        rows=[[q.tolist(), p.tolist()] for q, p in rows],
        measures=list(QUALITY_MEASURES),
        rules=[rule.model_dump(exclude_none=True) for rule in rules],
    )
    assert {answer["reasons"] for answer in given} >= {0, 7}, "rules hold, and are broken"
    for (quality, probabilities), answer in zip(rows, given, strict=True):
        wanted = decide(quality[None], probabilities[None], rules)
        assert answer == {
            "accepted": wanted.accepted,
            "reasons": wanted.reasons,
            "diagnosis": wanted.diagnosis,
            "confidence": wanted.confidence,
        }


PIPELINE = """
const { Pipeline } = await load("pipeline");
const stages = [
  { name: "prepare", kind: "prepare", inputs: [], outputs: [{ name: "quality" }] },
  { name: "classify", kind: "classify", inputs: [], outputs: [{ name: "probabilities" }] },
  { name: "grade_mel", kind: "grade", diagnosis: "mel", inputs: [],
    outputs: [{ name: "severity" }] },
];
const manifest = { stages, taxonomy: { classes: ["mel", "nv"], severities: ["mild", "severe"] },
  quality_measures: ["hair_coverage"], quality_rules: [] };
const bundle = { manifest, unrouted: stages.slice(0, 2),
  grader: (dx) => stages.find((stage) => stage.diagnosis === dx) };
const ran = [];
const give = (values) => ({ data: Float32Array.from(values), shape: [1, values.length] });
const engine = { bundle, format: "onnx", precision: "fp32", run: async ({ name, outputs }) => {
  ran.push(name);
  return { [outputs[0].name]: give(given.gives[name].map(Number)) };
} };
try {
  const { tensors, decision } = await new Pipeline(engine).run(give([0]));
  return { ran, decision, severity: Array.from(tensors.severity.data, String) };
} catch (error) {
  return { ran, error: `${error}` };
}
"""


def test_only_the_routed_grader_runs() -> None:
    gives = {"prepare": [0], "classify": [0.9, 0.1], "grade_mel": [0.3, 0.7]}
    mel = run(PIPELINE, gives=gives)
    assert mel["ran"] == ["prepare", "classify", "grade_mel"]
    assert [round(float(p), 6) for p in mel["severity"]] == [0.3, 0.7]
    naevus = run(PIPELINE, gives={**gives, "classify": [0.1, 0.9]})
    assert naevus["ran"] == ["prepare", "classify"]
    assert naevus["severity"] == ["NaN", "NaN"]


@pytest.mark.parametrize("lost", ["NaN", "Infinity"])
def test_what_is_not_finite_is_an_error_and_no_answer(lost: str) -> None:
    gives = {"prepare": [0], "classify": [0.9, 0.1], "grade_mel": [0.3, 0.7]}
    classified = run(PIPELINE, gives={**gives, "classify": [0.9, lost]})
    assert "Stage classify gives 1 of 2 values of probabilities as NaN" in classified["error"]
    assert "grade_mel" not in classified["ran"]
    graded = run(PIPELINE, gives={**gives, "grade_mel": [lost, 0.7]})
    assert "Stage grade_mel gives 1 of 2 values of severity as NaN" in graded["error"]


# The bundle

OPEN = """
const { Bundle } = await load("bundle");
const { readFileSync: read, existsSync } = await import("node:fs");
const files = async (path) => {
  const whole = `${given.folder}/${path}`;
  return existsSync(whole) ? new Uint8Array(read(whole)) : null;
};
try {
  const bundle = await Bundle.open(files, given.trusted ?? []);
  for (const path of Object.keys(bundle.manifest.files)) await bundle.read(path);
  return { sha256: bundle.sha256, signedBy: bundle.signedBy, isTrusted: bundle.isTrusted };
} catch (error) {
  return { error: `${error}` };
}
"""


@pytest.fixture
def copy(trunk_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trunk_bundle, tmp_path / "bundle"))


def reseal(folder: Path, change: tuple[bytes, bytes]) -> None:
    """Change the manifest, and its seal with it, as who forges one would."""
    import hashlib

    data = (folder / "manifest.json").read_bytes()
    assert change[0] in data
    data = data.replace(*change, 1)
    (folder / "manifest.json").write_bytes(data)
    line = f"{hashlib.sha256(data).hexdigest()}  manifest.json\n"
    (folder / "manifest.json.sha256").write_text(line)


def test_a_bundle_is_read_and_has_pythons_id(copy: Path) -> None:
    opened = run(OPEN, folder=str(copy))
    assert opened == {"sha256": Bundle.open(copy).sha256, "signedBy": None, "isTrusted": False}


def test_whatever_was_changed_is_refused(copy: Path) -> None:
    model = next((copy / "models" / "onnx").glob("*.onnx"))
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{model.name} was changed: its SHA-256" in run(OPEN, folder=str(copy))["error"]
    model.write_bytes(whole[:-1])
    assert f"has {len(whole) - 1} bytes, and the manifest" in run(OPEN, folder=str(copy))["error"]
    model.unlink()
    assert f"{model.name} is missing" in run(OPEN, folder=str(copy))["error"]
    model.write_bytes(whole)
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"melanoma", b"Melanoma", 1))
    assert "manifest.json was changed" in run(OPEN, folder=str(copy))["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b'"schema_version": 2', b'"schema_version": 3'), "has schema version 3"),
        ((b'"golden/golden.json"', b'"../golden.json"'), "is not a plain relative path"),
        ((b'"measure": "hair_coverage"', b'"measure": "beauty"'), "unknown measure beauty"),
        ((b'"above": 0.15', b'"above": "much"'), "is no rule"),
        ((b'"weights_licence"', b'"weights_license"'), "it has no weights_licence"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    copy: Path, change: tuple[bytes, bytes], said: str
) -> None:
    reseal(copy, change)
    assert said in run(OPEN, folder=str(copy))["error"]


def test_signatures_are_checked_as_python_checks_them(copy: Path, tmp_path: Path) -> None:
    keys = [
        signature.read_public(signature.generate(tmp_path / f"{n}.pem")) for n in ("ours", "other")
    ]
    assert "not signed" in run(OPEN, folder=str(copy), trusted=keys)["error"]
    writer.sign(Bundle.open(copy), tmp_path / "ours.pem")
    known = run(OPEN, folder=str(copy), trusted=keys)
    assert (known["signedBy"], known["isTrusted"]) == (keys[0], True)
    unknown = run(OPEN, folder=str(copy))
    assert (unknown["signedBy"], unknown["isTrusted"]) == (keys[0], False)
    assert "signed by another key" in run(OPEN, folder=str(copy), trusted=keys[1:])["error"]
    reseal(copy, (b"melanoma", b"Melanoma"))
    assert "signature is not of this manifest" in run(OPEN, folder=str(copy))["error"]
    (copy / "manifest.json.sig").write_text("{}")
    assert "signature cannot be read" in run(OPEN, folder=str(copy))["error"]


# The self-test's verdict

JUDGE = """
const { judge } = await load("golden");
const answer = { label: 0, diagnosis: 0, accepted: 1, reasons: 0, severity: 1 };
const seen = given.seen.map(({ differences, shift, flips }, i) => ({
  name: `case ${i}`, shift, expected: answer, differences: Object.fromEntries(
    Object.entries(differences).map(([name, value]) => [name, Number(value)])),
  actual: flips ? { ...answer, label: 1 } : answer,
}));
const { passed } = judge(given.parity, "web-onnxruntime", given.precision, seen);
return passed;
"""


@pytest.mark.parametrize(
    ("precision", "tensor", "apart", "passes"),
    [
        ("fp32", "probabilities", 9e-5, True),
        ("fp32", "probabilities", 1.1e-4, False),
        ("fp32", "severity_mel", 1.1e-4, False),
        ("fp32", "clean", "Infinity", False),
        ("fp32", "quality", 1e-9, False),
        ("fp32", "decoding", "Infinity", False),
        ("static_wi8_ai8", "probabilities", 0.2, True),
        ("static_wi8_ai8", "probabilities", "Infinity", False),
        ("static_wi8_ai8", "preliminary", 1.1e-4, False),
        ("static_wi8_ai8", "lesion_mask", "Infinity", False),
    ],
)
def test_golden_differences_are_held_to_the_bundles_tolerances(
    trunk_bundle: Path, precision: str, tensor: str, apart: object, passes: bool
) -> None:
    parity = Bundle.open(trunk_bundle).manifest.parity.model_dump(mode="json")
    seen = [{"differences": {tensor: apart}, "shift": 0.0, "flips": False}]
    assert run(JUDGE, parity=parity, precision=precision, seen=seen) is passes


@pytest.mark.parametrize(
    ("precision", "flips", "shift", "passes"),
    [
        ("fp32", 0, 0.0, True),
        ("fp32", 1, 0.0, False),
        ("static_wi8_ai8", 1, 0.05, True),
        ("static_wi8_ai8", 2, 0.05, False),
        ("static_wi8_ai8", 0, 0.07, False),
        ("fp16", 1, 0.0, False),
        ("weight_only_wi8_afp32", 0, 0.03, False),
    ],
)
def test_golden_flips_and_shifts_are_held_to_what_a_precision_may(
    trunk_bundle: Path, precision: str, flips: int, shift: float, passes: bool
) -> None:
    parity = Bundle.open(trunk_bundle).manifest.parity.model_dump(mode="json")
    seen = [{"differences": {}, "shift": shift, "flips": i < flips} for i in range(7)]
    assert run(JUDGE, parity=parity, precision=precision, seen=seen) is passes


def test_medians_are_medians() -> None:
    body = "const { medians } = await load('latency'); return medians(given.runs);"
    runs = [{"a": 1, "b": 9}, {"a": 5, "b": 1}, {"a": 3, "b": 2}, {"a": 2, "b": 7}]
    assert run(body, runs=runs) == {"stages": {"a": 2.5, "b": 4.5}, "total": 7.5}
