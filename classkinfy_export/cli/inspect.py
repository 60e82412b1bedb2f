"""``classkinfy inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or .ckb.")]


def command(bundle: BundlePath, json: terminal.Json = False) -> None:
    """Show stages, tensors, sizes, licences and evidence, after checking every hash.

    Example: [bold]classkinfy inspect bundle[/]
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    evidence = opened.evidence()
    if json:
        terminal.emit(
            {
                "manifest_sha256": opened.sha256,
                "manifest": manifest.model_dump(mode="json"),
                "evidence": evidence,
            }
        )
        return
    total = sum(entry.size_bytes for entry in manifest.files.values())
    terminal.out.print(
        f"[bold]{terminal.plain(manifest.name)}[/] {opened.sha256[:12]}: "
        f"{len(manifest.files)} files, {total / 2**20:.1f} MiB, every hash matches\n"
        f"weights: {terminal.plain(manifest.weights_licence)}; "
        f"graders: {manifest.grader_variant or 'none'}; "
        f"hair removal: {'on' if manifest.hair_removal else 'off'}"
    )
    stages = terminal.table("Stages", "stage", "tensor", "dtype", "shape", "unit")
    specs = [*manifest.stages, *([manifest.pipeline] if manifest.pipeline else [])]
    for spec in specs:
        for direction, tensors in (("in", spec.inputs), ("out", spec.outputs)):
            for tensor in tensors:
                first = direction == "in" and tensor is spec.inputs[0]
                stages.add_row(
                    terminal.plain(spec.name) if first else "",
                    terminal.plain(f"{direction} {tensor.name}{' (exact)' * tensor.exact}"),
                    tensor.dtype,
                    " x ".join(map(str, tensor.shape)),
                    terminal.plain(tensor.unit),
                )
    terminal.out.print(stages)
    models = terminal.table("Models", "file", "precision", "stages", ">MiB")
    for model in manifest.models:
        size = manifest.files[model.path].size_bytes / 2**20
        path, entries = terminal.plain(model.path), terminal.plain(", ".join(model.entries))
        models.add_row(path, model.precision, entries, f"{size:.2f}")
    terminal.out.print(models)
    shown = ", ".join(
        f"{name} ({'passed' if content['passed'] else 'FAILED'})" if "passed" in content else name
        for name, content in evidence.items()
    )
    terminal.out.print(f"evidence: {terminal.plain(shown) or 'none'}")
    terminal.disclaim()
