"""``classkinfy inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from classkinfy_export import precision as precisions
from classkinfy_export.bundle.manifest import SBOM, Decisions
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.errors import GateFailedError
from classkinfy_export.frame import choose, list_images
from classkinfy_export.parity import half_range

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or .ckb.")]


def command(
    bundle: BundlePath,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--half-range",
            metavar="PHOTOS",
            help="Tell instead, on photos, what a GPU in half precision would not hold.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Evenly spaced photos, at most so many.")] = 128,
    precision: terminal.Precision = "fp32",
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Show stages, tensors, sizes, licences, signer and evidence, after checking every hash.

    With --half-range, run the LiteRT networks operator by operator on photos, and show how near
    every sum comes to the largest number of half precision. Exit code 1 when one comes too near.

    Example: [bold]classkinfy inspect bundle --half-range photos[/]
    """
    opened = Bundle.open(bundle, terminal.trusted(trusted))
    if photos is not None:
        _half_range(opened, choose(list_images(photos), limit), precision, json)
        return
    manifest = opened.manifest
    evidence = opened.evidence()
    signer = _signer(opened)
    if json:
        terminal.emit(
            {
                "manifest_sha256": opened.sha256,
                "signer": signer,
                "manifest": manifest.model_dump(mode="json"),
                "evidence": evidence,
            }
        )
        return
    total = sum(entry.size_bytes for entry in manifest.files.values())
    terminal.out.print(
        f"[bold]{terminal.plain(manifest.name)}[/] {opened.sha256[:12]}: "
        f"{len(manifest.files)} files, {total / 2**20:.1f} MiB, every hash matches\n"
        f"signed by: {signer or 'nobody'}\n"
        f"bill of materials: {SBOM if SBOM in manifest.files else 'none'}\n"
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
    for model in manifest.models:
        for entry, modules in (model.floats or {}).items():
            named = terminal.plain(", ".join(modules)) or "no convolution"
            terminal.out.print(
                f"in float in {terminal.plain(model.path)}, {terminal.plain(entry)}: {named}"
            )
    if manifest.decisions is not None:
        terminal.out.print(_decided(manifest.decisions))
    shown = ", ".join(
        f"{name} ({'passed' if content['passed'] else 'FAILED'})" if "passed" in content else name
        for name, content in evidence.items()
    )
    terminal.out.print(f"evidence: {terminal.plain(shown) or 'none'}")
    terminal.disclaim()


def _signer(bundle: Bundle) -> str | None:
    if bundle.signer is None:
        return None
    from classkinfy_export.bundle import signature  # with it, cryptography

    return signature.fingerprint(bundle.signer)


def _decided(found: Decisions) -> Table:
    made = terminal.table(
        f"Decisions on {found.images} other photos than calibrated on, beside fp32",
        *("format", "precision", ">same diagnosis", ">mean change", ">temperature"),
        ">same severity",
    )
    for row in found.models:
        severities = "" if row.severities is None else f"{row.severities:.1%}"
        temperature = "" if row.temperature is None else f"{row.temperature:.3f}"
        figures = (f"{row.agreement:.1%}", f"{row.mean_change:.4f}", temperature)
        made.add_row(row.format, row.precision, *figures, severities)
    return made


def _half_range(
    bundle: Bundle, photos: list[Path], precision: precisions.Precision, json: bool
) -> None:
    with terminal.progress() as report:
        found = half_range.check(
            bundle,
            photos,
            precision=precision,
            progress=lambda done, total: report("half precision", done, total),
        )
    unsafe = found.unsafe()
    if json:
        terminal.emit({**found.model_dump(mode="json"), "passed": not unsafe})
    else:
        _show(found)
    if unsafe:
        worst = min(unsafe, key=lambda row: row.headroom)
        raise GateFailedError(
            f"{len(unsafe)} operators come too near to {half_range.LARGEST:,.0f}, the largest "
            f"number of half precision: stage {worst.stage}, {worst.operator} {worst.tensor} "
            f"reaches {worst.largest:,.0f}, and {half_range.HEADROOM:g} times as much must fit",
            hint="keep this bundle off GPU delegates",
        )


def _show(found: half_range.HalfRange) -> None:
    made = terminal.table(
        f"The largest numbers on {found.images} photos",
        *("stage", "operator", "tensor", "module", ">terms", ">largest", ">headroom", ""),
    )
    unsafe = found.unsafe()
    for row in found.rows:
        verdict = "[green]fits[/]" if row.stage in found.networks else "for the CPU"
        made.add_row(
            *(terminal.plain(cell) for cell in (row.stage, row.operator, row.tensor, row.module)),
            str(row.terms),
            f"{row.largest:,.1f}",
            f"{row.headroom:,.4g}x",
            "[bold red]TOO NEAR[/]" if row in unsafe else verdict,
        )
    terminal.out.print(made)
    terminal.disclaim()
