"""The command line run inside the test's process, and what is fed to it."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from classkinfy_export.cli import terminal
from classkinfy_export.cli.app import app
from classkinfy_export.contract import GraderVariant
from classkinfy_export.data import synthetic
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.stages import checkpoint

_PROGRESS = re.compile(r".+ \(\d+/\d+\)")
# LiteRT's C++ says so on descriptor 2, once a process.
_CHATTER = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str

    def error(self) -> str:
        """Return the one error line; only lines of progress may stand before it."""
        assert "Traceback" not in self.stdout + self.stderr
        *before, last = self.stderr.splitlines() or [""]
        assert last.startswith("error: "), self.stderr
        ours = [line for line in before if line != _CHATTER]
        assert all(_PROGRESS.fullmatch(line) for line in ours), self.stderr
        return last

    def refused(self, *fragments: object) -> None:
        """Check that it was bad input, and that the error line names these."""
        line = self.error()
        assert self.exit_code == 2
        assert self.stdout == ""
        for fragment in fragments:
            assert str(fragment) in line


@pytest.fixture
def classkinfy(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ran]]:
    """Run a command line, as ``classkinfy("inspect", bundle)``, without a terminal."""
    monkeypatch.setenv("TTY_COMPATIBLE", "0")

    def close() -> None:
        # The console writes to its own copy of descriptor 2, made when it is first asked for.
        if terminal._stderr.cache_info().currsize:
            terminal._stderr().file.close()
            terminal._stderr.cache_clear()

    def run(*arguments: object) -> Ran:
        close()
        capfd.readouterr()
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        close()
        captured = capfd.readouterr()
        return Ran(result.exit_code, result.stdout + captured.out, result.stderr + captured.err)

    yield run
    close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to write, in a folder that holds nothing else."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "made"


@pytest.fixture
def bundle(trunk_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the trunk bundle, free to be altered."""
    return shutil.copytree(trunk_bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def weights(
    checkpoints: Callable[[GraderVariant], Sources], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Checkpoints on disk: classifier, screen, and heads ``grader_<dx>.safetensors``."""
    folder = tmp_path_factory.mktemp("weights")
    sources = checkpoints("trunk")
    assert sources.screen is not None
    (folder / "screen.safetensors").write_bytes(checkpoint.to_bytes(sources.screen))
    (folder / "classifier.safetensors").write_bytes(checkpoint.to_bytes(sources.classifier))
    for dx, grader in sources.graders.items():
        (folder / f"grader_{dx}.safetensors").write_bytes(checkpoint.to_bytes(grader))
    return folder


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of a lesion without hair."""
    path = tmp_path_factory.mktemp("photo") / "lesion.jpg"
    Image.fromarray(synthetic.lesion("mel", seed=1, height=192, width=256, hair=0).image).save(path)
    return path


@pytest.fixture(scope="session")
def draw_lesions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Draw a data set in HAM10000's layout, of so many small pictures with masks."""

    def draw(number: int) -> Path:
        folder = tmp_path_factory.mktemp("lesions") / "data"
        masks = folder / "HAM10000_segmentations_lesion_tschandl"
        masks.mkdir(parents=True)
        with (folder / "HAM10000_metadata.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"))
            for index in range(number):
                dx, name = synthetic.CLASSES[index % 7], f"IMG_{index:03d}"
                drawn = synthetic.lesion(dx, index, height=96, width=128)
                Image.fromarray(drawn.image).save(folder / f"{name}.jpg")
                Image.fromarray(drawn.mask).save(masks / f"{name}_segmentation.png")
                table.writerow((f"LES_{index:03d}", name, dx, "histo", "50.0", "male", "back"))
        return folder

    return draw


@pytest.fixture(scope="session")
def lesions(draw_lesions: Callable[[int], Path]) -> Path:
    """A data set of nine lesions a class."""
    return draw_lesions(63)
