"""The text that travels with an exported model: what it segments, how well, and what it is not."""

from collections.abc import Sequence

from unetrpp.core.files import read_json
from unetrpp.model.folder import ARCHITECTURE, ModelFolder


def model_card(model: ModelFolder, folds: Sequence[str], checkpoint: str, use: str) -> str:
    """Markdown; the scores are those of the cross-validation where there is one. ``use`` says how to predict."""
    plans, configuration = model.plans, model.configuration
    scheme = plans.labels
    labels = ", ".join(f"{value} {name}" for name, value in zip(scheme.names, scheme.values, strict=True))
    spacing = " x ".join("own" if s is None else f"{s:g}" for s in configuration.preprocessing.spacing_mm)
    network = configuration.architecture.network
    lines = [
        f"# {plans.dataset}: {plans.name}, {model.configuration_name}",
        "",
        "For research use. Not a medical device: do not base a diagnosis or a treatment on its output.",
        "",
        f"- Segments: {labels}"
        + (f"; regions {', '.join(r.name for r in scheme.regions)}" if scheme.overlapping else ""),
        f"- Channels, in this order: {', '.join(plans.channel_names)} (files CASE_0000{plans.file_ending}, ...)",
        f"- Network: {network}, patch {' x '.join(map(str, configuration.patch))} voxels of {spacing} mm (plan order)",
        f"- Folds: {', '.join(folds)}, checkpoint {checkpoint}",
        *([f"- Runs after {configuration.first_stage}, which lies inside"] if configuration.first_stage else []),
        *_learned_attention(model, folds),
        f"- Trained on {len(model.fingerprint.cases)} cases of median spacing "
        f"{' x '.join(f'{s:.3g}' for s in model.fingerprint.median_spacing_mm)} mm (z, y, x)",
        *([f"- Data: {model.description.reference}"] if model.description.reference else []),
        *([f"- Licence of the data: {model.description.licence}"] if model.description.licence else []),
        "",
        *_scores(model),
        "## Use",
        "",
        use,
    ]
    return "\n".join(lines)


def _learned_attention(model: ModelFolder, folds: Sequence[str]) -> list[str]:
    """A line for every fold whose network is its own."""
    lines = []
    for fold in folds:
        if (model.path / f"fold_{fold}" / ARCHITECTURE).is_file():
            kept = ", ".join(f"{place} {gamma:.2f}" for place, gamma in model.architecture(fold).focal_gammas().items())
            lines.append(f"- Attention that fold {fold} learned (module@level gamma): {kept or 'none'}")
    return lines


def _scores(model: ModelFolder) -> list[str]:
    from unetrpp.evaluation.cross_validation import FILE, CrossValidation

    path = model.path / FILE
    if not path.is_file():
        return ["## Scores", "", "Not cross-validated.", ""]
    summary = read_json(path, CrossValidation).summary
    rows = ["| class | mean Dice | cases | missed |", "| --- | --- | --- | --- |"]
    for key, name in summary.classes.items():
        dice, counts = summary.mean[key]["Dice"], summary.counts[key]
        rows.append(f"| {name} | {'-' if dice is None else f'{dice:.3f}'} | {counts.cases} | {counts.missed} |")
    return ["## Scores in cross-validation", "", *rows, ""]
