"""The main job, verb after verb, on a model so small that it takes no time: FOLDER.

Run by ``test_privacy``, in a process that is watched.
"""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image

from classkinfy_export.cli.app import app
from classkinfy_export.data import synthetic

COMMAND = Path(sys.executable).with_name("classkinfy")
SIZE = "{height: 96, width: 128}"
NETWORK = "{architecture: test_efficientnet, weights: none, input_size: 64}"
PORT = 8000
"""Free: this process has a network of its own, or asks for another."""


def draw(folder: Path) -> Path:
    """Draw a data set in HAM10000's layout; return one of its photos."""
    folder.mkdir()
    with (folder / "HAM10000_metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"))
        for index in range(70):
            dx, name = synthetic.CLASSES[index % 7], f"IMG_{index:03d}"
            drawn = synthetic.lesion(dx, index, height=96, width=128)
            Image.fromarray(drawn.image).save(folder / f"{name}.jpg")
            table.writerow((f"LES_{index:03d}", name, dx, "histo", "50.0", "male", "back"))
    return folder / "IMG_000.jpg"


def classkinfy(*arguments: object) -> None:
    """Run a verb."""
    code = app([str(argument) for argument in arguments], standalone_mode=False)
    if code:
        raise SystemExit(code)


def serve(bundle: Path, photo: Path, record: Path, port: int) -> None:
    """Ask a server for one answer, and end it."""
    url = f"http://127.0.0.1:{port}"
    options = ("--port", str(port), "--record", f"sqlite:///{record}")
    server = subprocess.Popen([COMMAND, "serve", bundle, *options])
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz").close()
            break
        except OSError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.1)
    edge = "a-boundary"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head.encode() + photo.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    asked = urllib.request.Request(f"{url}/v1/predict", body, kind)
    with urllib.request.urlopen(asked) as answer:
        assert b'"disclaimer"' in answer.read()
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0


def main(root: Path, port: int) -> None:
    """Do it all below a folder."""
    photo = draw(root / "lesions")
    run, bundle, key = root / "run", root / "bundle", root / "key.pem"
    small = ("--set", f"working_size={SIZE}", "--set", f"classifier.network={NETWORK}")
    short = ("--set", "classifier.fit.epochs=1", "--set", "graders.fit.epochs=1")
    graded = ("--set", "taxonomy.graded=[mel]")
    data = ("--data", root / "lesions")
    classkinfy("train", "train/smoke.yaml", *data, *small, *short, *graded, "--out", run)
    recipe = ("--recipe", "export/mobile.yaml", "--set", f"capture={SIZE}")
    plain = ("--set", "forms=[staged]", "--set", "float_blocks={}")
    classkinfy("export", run, *recipe, *plain, "--out", bundle)
    classkinfy("verify", bundle, "--images", root / "lesions", "--limit", 4)
    runtimes = ("--runtimes", "onnxruntime,litert", "--threads", "1")
    classkinfy("bench", bundle, *runtimes, "--n", 3, "--warmup", 0, "--rounds", 1)
    classkinfy("report", bundle, "--out", root / "report.html")
    classkinfy("keygen", key)
    classkinfy("sign", bundle, "--key", key)
    classkinfy("inspect", bundle, "--trusted", key.with_suffix(".pub.pem"))
    classkinfy("embed", bundle, "--android", root / "app")
    for runtime in ("onnxruntime", "litert", "pytorch"):
        classkinfy("predict", bundle, photo, "--runtime", runtime)
    serve(bundle, photo, root / "answers.db", port)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
