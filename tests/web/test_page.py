"""The page in headless Chromium, with a phone's screen."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from web.browsing import Browser, served
from web.test_twins import reseal

from classkinfy_export import runtimes
from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.jobs import web_page
from classkinfy_export.runtimes.session import Session
from classkinfy_export.runtimes.web.runtime import INSTALLATION

NATIVE = {"web-onnxruntime": "onnxruntime", "web-litert": "litert"}
DEFAULT = "web-litert"
AXE = Path(os.environ.get("CLASSKINFY_AXE", INSTALLATION.folder() / "node_modules/axe-core"))

READY = (
    "await page.waitForFunction(() => document.body.dataset.offline"
    " || document.body.dataset.state === 'failed');"
)
TOLD = (
    "const ids = ['status', 'alarm', 'selftest-verdict', 'running', 'facts'];"
    "return Object.fromEntries(await Promise.all(ids.map(async (id) =>"
    " [id, await page.textContent(`#${id}`)])));"
)
OPEN_ALL = "for (const part of document.querySelectorAll('details')) part.open = true;"


@pytest.fixture
def url(page: Path) -> Iterator[str]:
    with served(page) as address:
        yield address


@pytest.fixture
def copy(page: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(page, tmp_path / "copy"))


def load(browser: Browser, url: str, **choice: Any) -> dict[str, str]:
    """Load the page, and again where something is to be chosen first."""
    told = browser.run(f"await page.goto(given.url); {READY}{TOLD}", url=url)
    if choice:
        keep = "(kept) => localStorage.setItem('classkinfy-choice', JSON.stringify(kept))"
        run = f"await page.evaluate({keep}, given.choice); await page.reload(); {READY}{TOLD}"
        told = browser.run(run, choice=choice)
    return dict(told)


def analyse(browser: Browser, photo: Path) -> dict[str, Any]:
    """Upload a photo; give the answer's numbers."""
    answer = browser.run(
        "await page.evaluate(() => delete document.body.dataset.answer);"
        "await page.setInputFiles('#file', given.photo);"
        "await page.waitForFunction(() => document.body.dataset.answer"
        " || !document.getElementById('alarm').hidden);"
        "return page.evaluate(() => document.body.dataset.answer ?? '{}');",
        photo=str(photo),
    )
    return dict(json.loads(answer))


def lesion(path: Path, height: int = 301, width: int = 457, **options: Any) -> Path:
    drawn = synthetic.lesion("mel", 3, height=height, width=width, hair=0.0).image
    Image.fromarray(drawn).save(path, **options)
    return path


def close(answer: dict[str, Any], bundle: Path, runtime: str, photo: Path) -> float:
    """Compare an answer with Python's; give the largest change of a probability."""
    opened = Bundle.open(bundle)
    session = Session(runtimes.get(NATIVE[runtime]).open(opened))
    wanted = session.predict(photo)
    taxonomy, parity = opened.manifest.taxonomy, opened.manifest.parity
    index = taxonomy.index(wanted.diagnosis) if wanted.diagnosis else -1
    assert (answer["diagnosis"], answer["accepted"]) == (index, wanted.accepted)
    assert answer["quality"] == list(wanted.quality.values())
    apart = {
        "probabilities": wanted.probabilities,
        "preliminary": wanted.preliminary,
        "severity": wanted.severity_probabilities,
    }
    found = {
        name: float(np.abs(np.array(answer[name]) - list(values.values())).max())
        for name, values in apart.items()
        if values is not None
    }
    for name, largest in found.items():
        assert largest <= parity.tolerance(runtime, name), name
    return found["probabilities"]


# Answers


@pytest.mark.parametrize("runtime", NATIVE)
def test_a_photo_gets_the_answer_that_python_gives(
    browser: Browser, url: str, trunk_bundle: Path, tmp_path: Path, runtime: str
) -> None:
    told = load(browser, url, runtime=runtime, precision="fp32", threads=1)
    assert {"web-onnxruntime": "ONNX Runtime", "web-litert": "LiteRT"}[runtime] in told["running"]
    photo = lesion(tmp_path / "photo.png")
    answer = analyse(browser, photo)
    close(answer, trunk_bundle, runtime, photo)
    shown = browser.run("return page.innerText('#result')")
    taxonomy = Bundle.open(trunk_bundle).manifest.taxonomy
    title = taxonomy.title(taxonomy.classes[answer["diagnosis"]])
    for text in (title, f"{100 * max(answer['probabilities']):.1f} %", "proxy grade"):
        assert text.lower() in shown.lower()
    assert browser.run("return page.getAttribute('#photo', 'aria-label')").startswith(
        "Your photo, of which "
    )
    said = browser.run("return page.textContent('#announcement')")
    assert title in said
    assert "Not a medical device" in said


def test_graded_and_refused_photos_are_told_apart(
    browser: Browser, url: str, trunk_bundle: Path, tmp_path: Path
) -> None:
    load(browser, url)
    hairy = synthetic.lesion("bcc", 4, height=96, width=128, hair=1.0).image.copy()
    for x in range(4, 128, 6):
        hairy[:, x : x + 2] = 20
    Image.fromarray(hairy).save(tmp_path / "hairy.png")
    wanted = Session(runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle))).predict(
        tmp_path / "hairy.png"
    )
    assert not wanted.accepted, "or the test is of nothing"
    answer = analyse(browser, tmp_path / "hairy.png")
    assert (answer["accepted"], answer["diagnosis"]) == (False, -1)
    shown = browser.run("return page.innerText('#result')")
    assert "Refused" in shown
    assert "Not graded" in shown
    assert "hair covers the skin" in shown


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_phones_jpeg_is_turned_upright(
    browser: Browser, url: str, trunk_bundle: Path, tmp_path: Path, orientation: int
) -> None:
    load(browser, url)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = lesion(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    close(analyse(browser, photo), trunk_bundle, DEFAULT, photo)


def test_colour_profiles_and_gray_photos_are_read_as_python_reads_them(
    browser: Browser, url: str, trunk_bundle: Path, tmp_path: Path
) -> None:
    from PIL import ImageCms

    load(browser, url)
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    photo = lesion(tmp_path / "profile.png", icc_profile=wide)
    close(analyse(browser, photo), trunk_bundle, DEFAULT, photo)
    gray = tmp_path / "gray.png"
    Image.open(photo).convert("L").save(gray)
    close(analyse(browser, gray), trunk_bundle, DEFAULT, gray)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("notes.jpg", b"no photo at all", "not a photo that this browser reads"),
        ("clear.png", None, "transparent in places"),
    ],
)
def test_what_cannot_be_looked_at_is_said_and_the_next_photo_is_answered(
    browser: Browser, url: str, tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    load(browser, url)
    if data is None:
        file = io.BytesIO()
        Image.new("RGBA", (200, 150), (90, 60, 50, 128)).save(file, "PNG")
        data = file.getvalue()
    (tmp_path / name).write_bytes(data)
    assert analyse(browser, tmp_path / name) == {}
    assert said in browser.run("return page.innerText('#alarm')")
    assert analyse(browser, lesion(tmp_path / "photo.png"))["probabilities"]
    assert browser.run("return page.isHidden('#alarm')")


def test_the_camera_is_watched_and_its_picture_answered(browser: Browser, url: str) -> None:
    load(browser, url)
    browser.run(
        "await page.click('#camera');"
        "await page.waitForFunction(() => document.getElementById('hint').textContent);"
    )
    assert browser.run("return page.evaluate(() => document.activeElement.id)") == "shutter"
    answer = browser.run(
        "await page.click('#shutter');"
        "await page.waitForFunction(() => document.body.dataset.answer);"
        "return page.evaluate(() => [document.body.dataset.answer,"
        " document.getElementById('video').srcObject === null]);"
    )
    assert sum(json.loads(answer[0])["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer[1], "the camera is off"


def test_latency_is_told_by_stage(browser: Browser, url: str, tmp_path: Path) -> None:
    load(browser, url)
    analyse(browser, lesion(tmp_path / "photo.png"))
    rows = browser.run(
        f"await page.evaluate(() => {{ {OPEN_ALL} }}); await page.click('#latency-run');"
        "await page.waitForFunction(() => /median/.test("
        "document.getElementById('latency-total').textContent));"
        "return page.$$eval('#latency-table tbody tr', (rows) => rows.map((row) =>"
        " [...row.cells].map((cell) => cell.textContent)));"
    )
    stages = [row[0] for row in rows]
    assert stages[:5] == ["decode", "frame", "prepare", "screen", "classify"]
    assert stages[-1] == "all"
    assert all(float(row[2]) > 0 for row in rows[2:5])


# The self-test


@pytest.mark.parametrize("runtime", NATIVE)
def test_golden_vectors_hold_in_the_browser(browser: Browser, url: str, runtime: str) -> None:
    told = load(browser, url, runtime=runtime, precision="fp32", threads=1)
    assert told["selftest-verdict"].startswith("✓ Passed: 7 images, 0 with another decision")
    rows = browser.run(
        "return page.$$eval('#selftest-table tbody tr', (rows) => rows.map((row) =>"
        " [...row.cells].map((cell) => cell.textContent)));"
    )
    assert {"clean", "probabilities", "severity_mel", "decoding"} <= {row[0] for row in rows}
    assert {row[3] for row in rows} == {"✓ yes"}


def test_golden_vectors_that_do_not_hold_raise_an_alarm(
    browser: Browser, trunk_bundle: Path, tmp_path: Path, page: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    index = bundle / "golden" / "golden.json"
    content = json.loads(index.read_text())
    content["cases"][2]["tensors"]["probabilities"]["values"][0] += 2e-4
    index.write_text(json.dumps(content))
    manifest = Manifest.from_bytes((bundle / "manifest.json").read_bytes(), "manifest")
    writer.seal(bundle, manifest.model_copy(update={"files": writer.pin(bundle)}))
    web_page.write(Bundle.open(bundle), tmp_path / "page")
    with served(tmp_path / "page") as url:
        told = load(browser, url)
        after = browser.run(
            "await page.setInputFiles('#file', given.photo);"
            "await page.waitForFunction(() => document.body.dataset.answer);"
            f"{TOLD}",
            photo=str(lesion(tmp_path / "lesion.png")),
        )
    assert told["selftest-verdict"].startswith("✗ Failed: ")
    assert "out of tolerance: probabilities" in told["selftest-verdict"]
    assert "The self-test failed" in told["alarm"]
    assert after["alarm"] == told["alarm"]  # an answer does not take the warning away


def test_another_bundle_than_the_page_was_made_with_is_refused(
    browser: Browser, copy: Path, trunk_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    manifest = Manifest.from_bytes((bundle / "manifest.json").read_bytes(), "manifest")
    writer.seal(bundle, manifest.model_copy(update={"name": "another"}))
    for name in ("manifest.json", "manifest.json.sha256"):
        shutil.copyfile(bundle / name, copy / "bundle" / name)
    with served(copy) as url:
        told = load(browser, url)
    assert "another bundle than the page was made with" in told["alarm"]


def test_another_runtime_is_tested_when_it_is_chosen(browser: Browser, url: str) -> None:
    load(browser, url)
    told = browser.run(
        f"await page.evaluate(() => {{ {OPEN_ALL} }});"
        "await page.selectOption('#runtime', 'web-onnxruntime');"
        "await page.waitForFunction(() => !document.body.dataset.offline);"
        f"{READY}{TOLD}"
    )
    assert told["running"] == "ONNX Runtime Web, 32-bit floats, 1 thread"
    assert told["selftest-verdict"].startswith("✓ Passed")
    assert "It works without a network now" in told["status"]


# Trust


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bundle/models/litert/main.tflite", "main.tflite was changed: its SHA-256"),
        ("bundle/manifest.json", "manifest.json was changed"),
    ],
)
def test_a_damaged_bundle_is_refused(browser: Browser, copy: Path, name: str, said: str) -> None:
    path = copy / name
    data = path.read_bytes().replace(b"melanoma", b"melanosa")
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with served(copy) as url:
        told = load(browser, url)
    assert said in told["alarm"]
    assert browser.run("return page.isDisabled('#choose') && page.isDisabled('#camera')")


def test_signatures_are_asked_for_and_checked(
    browser: Browser, trunk_bundle: Path, tmp_path: Path
) -> None:
    ours, other = (
        signature.read_public(signature.generate(tmp_path / f"{name}.pem"))
        for name in ("ours", "other")
    )
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)

    def told(name: str, *trusted: str, forged: bool = False) -> dict[str, str]:
        folder = web_page.write(Bundle.open(bundle), tmp_path / name, trusted=trusted)
        if forged:
            reseal(folder / "bundle", (b"melanoma", b"Melanoma"))
        browser.begin()
        with served(folder) as url:
            return load(browser, url)

    assert "The bundle is not signed" in told("unsigned", ours)["alarm"]
    writer.sign(Bundle.open(bundle), tmp_path / "ours.pem")
    assert "Signed by a key that this page trusts" in told("signed", ours)["facts"]
    assert "does not know the signer" in told("unknown")["facts"]
    assert "signed by another key" in told("foreign", other)["alarm"]
    assert "signature is not of this manifest" in told("forged", ours, forged=True)["alarm"]


def test_nothing_leaves_the_page(browser: Browser, url: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index.html").write_text("reached")
    load(browser, url)
    load(browser, url)  # in its worker too, the policy comes from the service worker
    analyse(browser, lesion(tmp_path / "photo.png"))
    origin = urllib.parse.urlsplit(url).netloc
    requests = browser.run("return seen.requests")
    assert len(requests) > 20
    assert {urllib.parse.urlsplit(r).netloc for r in requests} == {origin}
    # And could not: where this address is reached from a script without the policy.
    with served(tmp_path / "elsewhere", {"Access-Control-Allow-Origin": "*"}) as other:
        ask = "(other) => fetch(other, { mode: 'no-cors' }).then(() => 'reached', (e) => e.message)"
        run = (
            f"return [await page.evaluate({ask}, given.other),"
            f" await page.workers()[0].evaluate({ask}, given.other)];"
        )
        assert browser.run(run, other=other) == ["Failed to fetch"] * 2
        assert browser.run("return (await fetch(given.other)).text()", other=other) == "reached"
    # LiteRT tells what it does where errors are told.
    told = re.compile("INFO: |WARNING: |.*Content Security Policy")
    assert [error for error in browser.run("return seen.errors") if not told.match(error)] == []


# Without a network, and with threads


def test_it_answers_without_a_network_after_the_first_load(
    browser: Browser, page: Path, trunk_bundle: Path, tmp_path: Path
) -> None:
    with served(page) as url:
        told = load(browser, url)
        assert "It works without a network now" in told["status"]
    # The server is gone.
    browser.run("await context.setOffline(true);")
    told = browser.run(
        "await page.evaluate(() => (window.before = true)); await page.reload();"
        f"{READY} if (await page.evaluate(() => window.before)) throw new Error('no reload');{TOLD}"
    )
    assert told["alarm"] == ""
    assert told["selftest-verdict"].startswith("✓ Passed")
    photo = lesion(tmp_path / "photo.png")
    close(analyse(browser, photo), trunk_bundle, DEFAULT, photo)


def test_a_newer_release_is_offered_and_taken(
    browser: Browser, copy: Path, trunk_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    manifest = Manifest.from_bytes((bundle / "manifest.json").read_bytes(), "manifest")
    writer.seal(bundle, manifest.model_copy(update={"name": "newer"}))
    with served(copy) as url:
        assert "small, made by" in load(browser, url)["facts"]
        web_page.write(Bundle.open(bundle), copy, overwrite=True)
        told = browser.run(
            f"await page.reload(); {READY} const before = await page.textContent('#facts');"
            "await Promise.all([page.waitForEvent('load'), page.click('#update')]);"
            f"{READY} return [before, await page.textContent('#facts')];"
        )
    assert "small, made by" in told[0], "until it is asked for"
    assert "newer, made by" in told[1]


@pytest.mark.parametrize("runtime", NATIVE)
def test_threads_need_one_reload_on_a_plain_host(browser: Browser, url: str, runtime: str) -> None:
    load(browser, url)
    first = browser.run(
        f"await page.evaluate(() => {{ {OPEN_ALL} }});"
        "return [await page.evaluate(() => crossOriginIsolated), await page.isVisible('#reload'),"
        " await page.isDisabled('#threads'), await page.textContent('#isolation')];"
    )
    assert first[:3] == [False, True, True]
    assert "not isolated" in first[3]
    told = load(browser, url, runtime=runtime, precision="fp32", threads=2)
    assert browser.run("return page.evaluate(() => crossOriginIsolated)")
    assert "2 threads" in told["running"]
    assert told["selftest-verdict"].startswith("✓ Passed")


def test_a_server_with_headers_isolates_the_first_visit(chromium: Browser, page: Path) -> None:
    chromium.begin(serviceWorkers="block")
    ready = "await page.waitForFunction(() => document.body.dataset.state === 'ready');"
    with served(page, web_page.HEADERS) as url:
        isolated = chromium.run(
            f"await page.goto(given.url);{ready} return page.evaluate(() => crossOriginIsolated);",
            url=url,
        )
        assert isolated
        assert "needs a network" in chromium.run(
            "await page.waitForFunction(() => /network/.test("
            "document.getElementById('status').textContent)); return page.textContent('#status');"
        )


# For everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium: Browser, url: str, tmp_path: Path, scheme: str) -> None:
    source = AXE / "axe.min.js"
    if not source.is_file():
        pytest.skip("axe-core is not there: npm install axe-core, and name it in CLASSKINFY_AXE")
    chromium.begin(colorScheme=scheme, reducedMotion="reduce")
    load(chromium, url)
    check = (
        "await page.evaluate(given.axe); return page.evaluate(async () =>"
        " (await axe.run()).violations.map(({ id, nodes }) => [id, nodes.map((n) => n.html)]));"
    )
    axe = source.read_text()
    assert chromium.run(check, axe=axe) == []
    analyse(chromium, lesion(tmp_path / "photo.png"))
    chromium.run(f"await page.evaluate(() => {{ {OPEN_ALL} }});")
    assert chromium.run(check, axe=axe) == []
    passed = chromium.run("return page.evaluate(async () => (await axe.run()).passes.length)")
    assert passed > 20


def test_360_pixels_are_enough(chromium: Browser, url: str, tmp_path: Path) -> None:
    chromium.begin(viewport={"width": 360, "height": 640})
    load(chromium, url)
    analyse(chromium, lesion(tmp_path / "photo.png"))
    chromium.run(f"await page.evaluate(() => {{ {OPEN_ALL} }});")
    wide = chromium.run(
        "return page.evaluate(() => [document.documentElement.scrollWidth, innerWidth,"
        " [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') &&"
        " e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)]);"
    )
    assert wide == [360, 360, []]
    seen = chromium.run(
        "await page.evaluate(() => scrollTo(0, 0));"
        "const box = await page.locator('#disclaimer').boundingBox(); return box.y + box.height;"
    )
    assert seen <= 640, "the disclaimer is on the screen"


def test_a_keyboard_is_enough(browser: Browser, url: str, tmp_path: Path) -> None:
    load(browser, url)
    focused = browser.run(
        "const ids = []; for (let i = 0; i < 6; i++) { await page.keyboard.press('Tab');"
        " ids.push(await page.evaluate(() => document.activeElement.id"
        " || document.activeElement.closest('[id]')?.id)); } return ids;"
    )
    assert focused == ["camera", "choose", "settings", "selftest", "latency", "about"]
    photo = lesion(tmp_path / "photo.png")
    browser.run(
        # To wait takes effect before what follows: it is asked of Chromium first.
        "const chosen = page.waitForEvent('filechooser'); await page.focus('#choose');"
        "await page.keyboard.press('Enter'); await (await chosen).setFiles(given.photo);"
        "await page.waitForFunction(() => document.body.dataset.answer);",
        photo=str(photo),
    )
    browser.run("await page.focus('#outline'); await page.keyboard.press('Space');")
    assert not browser.run("return page.isChecked('#outline')")
