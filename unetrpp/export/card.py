"""The model card that travels with an exported model: what it segments, how well, and what it must not be used for."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from unetrpp.core.text import format_mm, format_score, format_shape
from unetrpp.evaluation.cross_validation import cross_validation_of
from unetrpp.model.folder import ARCHITECTURE, ModelFolder

FILE = "MODEL_CARD.md"


@dataclass(frozen=True)
class ClassScore:
    """A row of the card's table."""

    name: str
    dice: str
    cases: int
    missed: int


def model_card(model: ModelFolder, folds: Sequence[str], checkpoint: str, use: str) -> str:
    """Markdown from templates/MODEL_CARD.md, with the scores of the cross-validation if there is one.

    Args:
        use: Markdown on how to predict with the exported files.
    """
    # Markdown is plain text: nothing is escaped.
    cards = Environment(
        loader=PackageLoader("unetrpp.export"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plans, configuration = model.plans, model.configuration
    spacing = [
        mm for mm in configuration.preprocessing.spacing_mm if mm is not None
    ]  # None: slices, which are not resampled
    return cards.get_template(FILE).render(
        model=model,
        plans=plans,
        configuration=configuration,
        labels=[f"{value} {name}" for name, value in zip(plans.labels.names, plans.labels.values, strict=True)],
        regions=[region.name for region in plans.labels.regions],
        patch=format_shape(configuration.patch),
        cells="pixels" if len(configuration.patch) == 2 else "voxels",
        in_pixels=model.fingerprint.in_pixels,
        spacing=format_mm(spacing),
        median_spacing=format_mm(model.fingerprint.median_spacing_mm),
        folds=folds,
        checkpoint=checkpoint,
        learned_attention=_learned_attention(model, folds),
        scores=_scores(model),
        use=use,
    )


def _learned_attention(model: ModelFolder, folds: Sequence[str]) -> dict[str, str]:
    """By fold: the modules that it kept, for every fold with an architecture of its own."""
    own = [fold for fold in folds if (model.path / f"fold_{fold}" / ARCHITECTURE).is_file()]
    gammas = {fold: model.architecture(fold).focal_gammas() for fold in own}
    return {fold: ", ".join(f"{place} {gamma:.2f}" for place, gamma in kept.items()) for fold, kept in gammas.items()}


def _scores(model: ModelFolder) -> list[ClassScore] | None:
    """One row per class; None if the model was not cross-validated."""
    found = cross_validation_of(model.path, model.plans.labels)
    if found is None:
        return None
    summary = found.summary
    return [
        ClassScore(name, format_score(summary.mean[key]["Dice"]), summary.counts[key].cases, summary.counts[key].missed)
        for key, name in summary.classes.items()
    ]
