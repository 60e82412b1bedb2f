"""The model card: what the bundle is, what it was measured to do, and what it is not."""

from __future__ import annotations

from typing import Any

from classkinfy_export.bundle.manifest import Manifest


def model_card(manifest: Manifest, metrics: dict[str, Any] | None) -> str:
    """Write the card in Markdown.

    Args:
        manifest: the bundle's, before the card is pinned in it.
        metrics: a training run's ``metrics.json``, None when the weights came without.
    """
    taxonomy, capture = manifest.taxonomy, manifest.capture
    graded = {stage.diagnosis for stage in manifest.stages if stage.diagnosis}
    trunk = manifest.grader_variant == "trunk"
    on_trunk = {stage.name for stage in manifest.stages if stage.kind == "grade" and trunk}
    lines = [
        f"# {manifest.name}",
        "",
        f"**{manifest.disclaimer}**",
        "",
        f"{manifest.severity_notice}",
        "",
        "## What it does",
        f"From one {capture.width} x {capture.height} {capture.layout.upper()} image of a skin "
        f"lesion to one of {len(taxonomy.classes)} classes and, for "
        f"{len(graded)} of them, one of {len(taxonomy.severities)} proxy grades.",
        "",
        "| class | name | malignant side | graded |",
        "|---|---|---|---|",
        *(
            f"| {dx} | {taxonomy.title(dx)} | {'yes' if dx in taxonomy.malignant else ''} "
            f"| {'yes' if dx in graded else ''} |"
            for dx in taxonomy.classes
        ),
        "",
        "## Networks",
        "| stage | architecture | input | head |",
        "|---|---|---|---|",
        *(
            f"| {stage} | head on the trunk | | on embedding and features |"
            if stage in on_trunk
            else f"| {stage} | {network.architecture} | {network.input_size} | {network.head} |"
            for stage, network in manifest.networks.items()
        ),
        "",
        f"Hair removal: {'on' if manifest.hair_removal else 'off'}. Graders: "
        f"{manifest.grader_variant or 'none'}. Licence of the weights: "
        f"{manifest.weights_licence}.",
        "",
        *_quantised(manifest),
        "## Quality rules",
        *(
            f"- {rule.reason}: {rule.measure} "
            f"{f'above {rule.above}' if rule.above is not None else f'below {rule.below}'}: "
            f"{rule.effect}"
            for rule in manifest.quality_rules
        ),
        *(["None."] if not manifest.quality_rules else []),
        "",
        "## Measured",
        *measured(metrics),
        "",
        "Parity and latency on this very bundle are under `evidence/`, each bound to the "
        "manifest's hash.",
    ]
    return "\n".join(lines) + "\n"


def _quantised(manifest: Manifest) -> list[str]:
    """Return the section on what int8 changes, and on what is float beside it."""
    lines: list[str] = []
    if manifest.decisions is not None:
        lines += [
            f"On {manifest.decisions.images} photos that were not calibrated on, beside fp32 in "
            "the same runtime:",
            "",
            "| format | precision | same diagnosis | mean change | temperature | same severity |",
            "|---|---|---|---|---|---|",
        ]
        for found in manifest.decisions.models:
            severities = "" if found.severities is None else f"{found.severities:.1%}"
            temperature = "" if found.temperature is None else f"{found.temperature:.3f}"
            lines.append(
                f"| {found.format} | {found.precision} | {found.agreement:.1%} "
                f"| {found.mean_change:.4f} | {temperature} | {severities} |"
            )
        caveats = dict.fromkeys(found.caveat for found in manifest.decisions.models)
        lines += ["", *(f"{caveat}\n" for caveat in caveats if caveat)]
    for network in manifest.calibration.trained if manifest.calibration is not None else ():
        after = "infinite" if network.after is None else f"{network.after:.4f}"
        lines.append(
            f"{network.stage} was trained for int8 on three quarters of the calibration photos. On "
            f"the others int8 activations made noise of {network.before:.4f} of the signal before, "
            f"{after} after"
            f"{'' if network.kept else '. It was no less, so the network is as it was'}.\n"
        )
    static = [model for model in manifest.models if model.floats is not None]
    if static:
        lines.append("The resize, the mean over positions and the head are float, and")
    for model in static:
        for entry, modules in (model.floats or {}).items():
            held = ", ".join(modules) or "no convolution"
            lines.append(f"- in `{model.path}`, {entry}: {held}")
    return ["## Quantised", *lines, ""] if lines else []


def measured(metrics: dict[str, Any] | None) -> list[str]:
    """Return the card's lines on a training run's figures."""
    if metrics is None:
        return ["These weights came without figures. Measure them before you use them."]
    data = metrics["data"]
    lines = [
        f"On {data['name']} ({data['images']} images), split by lesion; the test part was not "
        f"trained on. Severity: {data['severity']}.",
        "",
        "| stage | n | accuracy | balanced accuracy | AUROC |",
        "|---|---|---|---|---|",
        _row("screen", metrics["screen"]["test"]),
        _row("classify", metrics["classifier"]["test"]),
    ]
    found = metrics["screen"]["test"]
    for dx, figures in metrics["graders"].items():
        lines.append(_row(f"grade_{dx} (proxy)", figures["test"]))
    if metrics.get("screen_weight") is not None:
        lines += [
            "",
            "`classify` takes in what `screen` answered, to the power of "
            f"{metrics['screen_weight']:.3f}, fitted on lesions that neither was trained on.",
        ]
    if found.get("masks"):
        lines += [
            "",
            f"`screen` answers at once from shape and colour alone. Its lesion masks overlap the "
            f"experts' with a mean IoU of {found['mean_iou']:.3f} ({found['masks']} images).",
        ]
    return lines


def _row(stage: str, figures: dict[str, Any]) -> str:
    if not figures["n"]:
        return f"| {stage} | 0 | | | |"
    auroc = figures["auroc"]
    return (
        f"| {stage} | {figures['n']} | {figures['accuracy']:.3f} "
        f"| {figures['balanced_accuracy']:.3f} | {'' if auroc is None else f'{auroc:.3f}'} |"
    )
