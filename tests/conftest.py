"""What several test folders share: a tiny network's checkpoints, and bundles exported from them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.pop("CLASSKINFY_TRUSTED", None)  # bundles of tests are signed by nobody
os.environ.pop("COLUMNS", None)  # parallel workers of pytest are told of a narrow terminal

import conversions
import disks
import pytest
import torch
from disks import Disk
from filelock import FileLock
from PIL import Image

from classkinfy_export import recipes
from classkinfy_export.bundle import signature
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import (
    SCREEN_FEATURES,
    SCREEN_VERSION,
    Capture,
    GraderVariant,
    NetworkSpec,
    QualityRule,
    StageSpec,
)
from classkinfy_export.data import synthetic
from classkinfy_export.formats.litert import conversion
from classkinfy_export.jobs import export
from classkinfy_export.jobs.demo import SHIPPED
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.stages.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    Pooling,
    weights_sha256,
)
from classkinfy_export.stages.grade import Head
from classkinfy_export.stages.network import Network
from classkinfy_export.stages.screen import Profiles
from classkinfy_export.taxonomy import Taxonomy

Once = Callable[[str, Callable[[Path], object]], Path]

CAPTURE = Capture(height=96, width=128)
GRADED = ("akiec", "mel", "nv")
RULES = (
    QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
    QualityRule(measure="dark_share", reason="underexposed", above=0.5, effect="advise"),
)


def _network(outputs: int, seed: int) -> Network:
    """A tiny network whose answers are not all alike, as an untrained one's would be."""
    torch.manual_seed(seed)
    network = Network(NetworkSpec(architecture="test_efficientnet", input_size=64, outputs=outputs))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.6)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.nn.init.normal_(network.head[0].weight, 0.0, 0.1)
    return network.eval()


def _sources(variant: GraderVariant) -> Sources:
    taxonomy = Taxonomy()
    network = _network(len(taxonomy.classes), seed=0)
    # Of the two kinds of bundle, one has a screen, which its classifier asks.
    screen = _screen(taxonomy) if variant == "trunk" else None
    pooling = None if screen is None else Pooling(screen_sha256=screen.sha256, screen_weight=0.4)
    info = CheckpointInfo(
        role="classifier", network=network.spec, taxonomy=taxonomy, pooling=pooling
    )
    classifier = Checkpoint(info, network, weights_sha256(network))
    graders = {}
    for seed, dx in enumerate(GRADED, start=1):
        own = _network(len(taxonomy.severities), seed)
        module: torch.nn.Module = own
        if variant == "trunk":
            module = Head(network.embedding_width, len(SCREEN_FEATURES), 8, own.spec.outputs).eval()
            torch.nn.init.orthogonal_(module.axes)
            module.scale[8:] = 0.05
        info = CheckpointInfo(
            role="grader",
            network=own.spec,
            taxonomy=taxonomy,
            variant=variant,
            diagnosis=dx,
            trunk_sha256=classifier.sha256 if variant == "trunk" else None,
            screen_version=SCREEN_VERSION if variant == "trunk" else None,
        )
        graders[dx] = Checkpoint(info, module, weights_sha256(module))
    return Sources(classifier, graders, screen)


def _screen(taxonomy: Taxonomy) -> Checkpoint:
    torch.manual_seed(9)
    profiles = Profiles(len(taxonomy.classes)).eval().requires_grad_(False)
    profiles.scale.fill_(0.05)
    info = CheckpointInfo(role="screen", taxonomy=taxonomy, screen_version=SCREEN_VERSION)
    return Checkpoint(info, profiles, weights_sha256(profiles))


def pytest_configure() -> None:
    """Keep TensorBoard from importing TensorFlow beside torch, as ``training.task`` does."""
    sys.modules["tensorboard.compat.notf"] = ModuleType("notf")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow tests, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def small_recipe() -> ExportRecipe:
    """The recipe that the bundles below are exported with."""
    return ExportRecipe(name="small", capture=CAPTURE, quality_rules=RULES)


@pytest.fixture(scope="session")
def checkpoints() -> Callable[[GraderVariant], Sources]:
    """Sources of a bundle, by grader variant; made anew on each call, and always the same."""
    return _sources


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a file or folder once for all parallel workers, as ``once("bundle", make)``."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        path = folder / name
        with FileLock(folder / f"{name}.lock"):
            if not path.exists():
                make(path)
        return path

    return made


@pytest.fixture(scope="session", autouse=True)
def _each_conversion_once(once: Once) -> Iterator[None]:
    """Bundles hold the same stages, and to convert those to LiteRT takes a minute."""
    convert = conversion.convert

    def converted(module: torch.nn.Module, spec: StageSpec) -> bytes:
        ours = type(module).__module__.startswith("classkinfy_export.stages.")
        key = conversions.key((module, spec)) if ours else None
        if key is None:  # a test's own module, or altered by it
            return convert(module, spec)
        return once(key, lambda path: path.write_bytes(convert(module, spec))).read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "convert", converted)
        yield


@pytest.fixture(scope="session")
def lesions(once: Once) -> list[Path]:
    """Photos of drawn lesions, some with hair, of the bundles' size."""

    def draw(folder: Path) -> None:
        folder.mkdir()
        for number, dx in enumerate(Taxonomy().classes * 2):
            drawn = synthetic.lesion(dx, number, height=96, width=128, hair=number % 2)
            Image.fromarray(drawn.image).save(folder / f"{dx}_{number}.png")

    return sorted(once("lesions", draw).iterdir())


def _export(variant: GraderVariant, recipe: ExportRecipe) -> Callable[[Path], Bundle]:
    return lambda out: export.export(_sources(variant), recipe, out)


@pytest.fixture(scope="session")
def trunk_bundle(once: Once, small_recipe: ExportRecipe) -> Path:
    """A bundle in every format and form, graders on the trunk. Copy it before altering it."""
    return once("trunk_bundle", _export("trunk", small_recipe))


@pytest.fixture(scope="session")
def separate_bundle(once: Once, small_recipe: ExportRecipe) -> Path:
    """A bundle in every format and form, graders apart. Copy it before altering it."""
    return once("separate_bundle", _export("separate", small_recipe))


@pytest.fixture(scope="session")
def quantised_bundle(once: Once, small_recipe: ExportRecipe, lesions: list[Path]) -> Path:
    """``trunk_bundle`` with int8 beside fp32, no golden vectors. Copy it before altering it."""
    recipe = small_recipe.model_copy(
        update={
            "precisions": ("fp32", "static_wi8_ai8"),
            "calibration": CalibrationRecipe(images=8),
            "golden": False,
        }
    )
    return once(
        "quantised_bundle",
        lambda out: export.export(_sources("trunk"), recipe, out, calibration=lesions[0].parent),
    )


@pytest.fixture(scope="session")
def light_bundle(once: Once, small_recipe: ExportRecipe) -> Path:
    """``trunk_bundle`` with lighter weights beside fp32, no golden. Copy it before altering it."""
    recipe = small_recipe.model_copy(
        update={"precisions": ("fp32", "fp16", "weight_only_wi8_afp32"), "golden": False}
    )
    return once("light_bundle", _export("trunk", recipe))


@pytest.fixture(scope="session")
def shipped_bundle(once: Once) -> Path:
    """The shipped model, staged."""
    recipe = recipes.load("export/mobile.yaml", ExportRecipe, ("forms=[staged]", "golden=false"))
    return once("shipped_bundle", lambda out: export.export(Sources.from_run(SHIPPED), recipe, out))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a disk of so many KiB, as ``disk(4096)``, and get its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    yield lambda kib: disks.mount(folder, kib)
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key to sign with; the public one is beside it, ``release.pub.pem``."""
    path = tmp_path / "keys" / "release.pem"
    signature.generate(path)
    return path
