"""``classkinfy data``: check a data set, split it, or make a synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export import recipes
from classkinfy_export.cli import terminal
from classkinfy_export.errors import DataError, require

app = typer.Typer(help="Check a data set, split it by lesion, or make a synthetic one.")

Folder = Annotated[Path, typer.Argument(help="HAM10000, ISIC 2018 or PAD-UFES-20, as unpacked.")]


@app.command("check")
def check(
    folder: Folder,
    recipe: Annotated[
        str, typer.Option(help="A training recipe, for its taxonomy.")
    ] = "train/mobile.yaml",
    decode: Annotated[bool, typer.Option(help="Decode every image, which finds damage.")] = True,
    json: terminal.Json = False,
) -> None:
    """Read a data set's metadata and decode its images.

    Example: [bold]classkinfy data check HAM10000[/]
    """
    require("pandas", extra="train", purpose="reading data sets")
    from classkinfy_export.data.dataset import check_images, open_dataset

    dataset = open_dataset(folder, recipes.load(recipe, recipes.TrainRecipe).taxonomy)
    if decode:
        with terminal.progress() as report:
            check_images(dataset, lambda done, total: report("decoding", done, total))
    counts = {str(dx): int(n) for dx, n in dataset.records["dx"].value_counts().items()}
    summary = {
        "name": dataset.name,
        "images": len(dataset),
        "lesions": int(dataset.records["lesion_id"].nunique()),
        "masks": int(dataset.records["mask"].notna().sum()),
        "classes": counts,
        "fingerprint": dataset.fingerprint(),
    }
    if json:
        terminal.emit(summary)
        return
    terminal.out.print(
        f"{terminal.plain(dataset.name)}: {summary['images']} images of "
        f"{summary['lesions']} lesions, {summary['masks']} masks"
    )
    shown = terminal.table("Classes", "class", ">images")
    for dx, n in counts.items():
        shown.add_row(dx, str(n))
    terminal.out.print(shown)


@app.command("split")
def split(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    recipe: Annotated[str, typer.Option(help="A training recipe.")] = "train/mobile.yaml",
    json: terminal.Json = False,
) -> None:
    """Split by lesion into train, val, calib and test, once, into a file that everything reuses.

    Example: [bold]classkinfy data split HAM10000 --out split.csv[/]
    """
    require("pandas", extra="train", purpose="reading data sets")
    from classkinfy_export.data import splits
    from classkinfy_export.data.dataset import open_dataset

    settings = recipes.load(recipe, recipes.TrainRecipe)
    dataset = open_dataset(folder, settings.taxonomy)
    made = splits.split(dataset, settings.split)
    splits.write(made, out)
    parts = {str(part): int(n) for part, n in made["part"].value_counts().items()}
    if json:
        terminal.emit({"split": str(out), "images": parts})
        return
    counts = ", ".join(f"{part} {n}" for part, n in parts.items())
    terminal.out.print(f"{terminal.plain(out)}: {counts}")


@app.command("synthesise")
def synthesise(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    lesions: Annotated[int, typer.Option(min=1, help="Lesions of each class.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    json: terminal.Json = False,
) -> None:
    """Draw a synthetic lesion set in HAM10000's layout, with masks.

    Example: [bold]classkinfy data synthesise --out synthetic --lesions 40[/]
    """
    from classkinfy_export.data import synthetic

    if lesions < 1:
        raise DataError(f"--lesions must be at least 1, got {lesions}")
    with terminal.progress() as report:
        synthetic.write_dataset(
            out,
            lesions_per_class=lesions,
            seed=seed,
            progress=lambda done, total: report("drawing", done, total),
        )
    if json:
        terminal.emit({"data": str(out)})
        return
    terminal.out.print(terminal.plain(out))
