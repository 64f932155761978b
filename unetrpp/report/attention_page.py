"""The attention report: its page and the tables in it."""

from pathlib import Path

from torch import nn

from unetrpp.core.files import read_json_lines
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import Scores, scored_classes
from unetrpp.inference.predictor import Predictor
from unetrpp.networks.epa import EfficientPairedAttention
from unetrpp.report.attention_maps import AttentionFindings
from unetrpp.report.attention_picture import draw_channels, draw_maps
from unetrpp.report.page import Rows, Section, page

MODULES = (
    "Contrast is the standard deviation of the coefficients A^gamma over their mean. Dice is of the whole image on its "
    "own grid, without mirroring; 'with mean' has the module's coefficients replaced by their mean over each tile."
)
GATES = (
    "A^gamma on the image, on the grid that the network sees. Each map has its own range of colours; its bar tells it."
)
TEMPERATURES = "The focal parameter of a softmax is its temperature: 1 at the start of the training, higher is sharper."


def attention_page(predictor: Predictor, findings: AttentionFindings, case: str) -> str:
    """Everything about the predictor's one fold on ``case``."""
    model, (fold,) = predictor.model, predictor.folds
    folder, labels = model.path / f"fold_{fold}", model.plans.labels
    history = folder / "gammas.png"
    sections: list[Section] = [
        ("Modules", MODULES, modules_table(findings, labels)),
        ("Gates", GATES, draw_maps(findings, labels)),
        ("Squeeze-and-excitation", "A^gamma of each channel, averaged over tiles.", draw_channels(findings)),
        ("Efficient paired attention", TEMPERATURES, temperatures_table(predictor.networks[0])),
        ("Judgement", "What was kept when the gammas had been learned.", judgement_table(folder)),
        ("Gammas", "While they were learned.", history.read_bytes() if history.is_file() else None),
    ]
    return page(f"Attention of {model.path.resolve().name}, fold {fold}, on {case}", sections)


def modules_table(findings: AttentionFindings, labels: LabelScheme) -> Rows:
    """A header and a row a module: stride, gamma, mean, contrast, and Dice with the coefficients and with their mean."""
    classes = scored_classes(labels) if findings.scores is not None else ()
    header = ["module", "stride", "gamma", "mean", "contrast"]
    for scored in classes:
        header += [f"Dice {scored.name}", "with mean", "change"]
    rows = [header]
    for m in findings.modules:
        row = [m.place, " x ".join(map(str, m.stride)), f"{m.gamma:.3f}", f"{m.mean:.3f}", f"{m.contrast:.3f}"]
        for scored in classes:
            row += _changed(_dice(findings.scores, scored.key), _dice(m.scores, scored.key))
        rows.append(row)
    return rows


def _dice(scores: dict[str, Scores] | None, key: str) -> float | None:
    return None if scores is None else scores[key]["Dice"]


def _changed(before: float | None, after: float | None) -> list[str]:
    change = "-" if before is None or after is None else f"{after - before:+.4f}"
    return ["-" if before is None else f"{before:.4f}", "-" if after is None else f"{after:.4f}", change]


def temperatures_table(network: nn.Module) -> Rows:
    """A row a stage with EPA: the learned temperatures of its softmaxes, mean (least to most) over blocks and heads."""
    stages: dict[str, list[EfficientPairedAttention]] = {}
    for name, module in network.named_modules():
        if isinstance(module, EfficientPairedAttention):
            stages.setdefault(name.partition(".blocks")[0], []).append(module)
    rows = [["EPA stage", "channel temperature", "spatial temperature"]]
    for stage, blocks in stages.items():
        values = [
            [t for block in blocks for t in getattr(block, name).flatten().tolist()]
            for name in ("channel_temperature", "spatial_temperature")
        ]
        rows.append([stage, *(f"{sum(v) / len(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in values)])
    return rows if stages else []


def judgement_table(fold: Path) -> Rows:
    """What stage B decided in this fold, from its metrics.jsonl; empty where that is missing or nothing was learned."""
    judged = next((entry for entry in read_json_lines(fold / "metrics.jsonl") if "judgement" in entry), None)
    if judged is None:
        return []
    rows = [["module", "gamma", "contrast", "Dice change", f"judged after epoch {judged['epoch']}"]]
    for v in judged["judgement"]:
        change = "-" if v["dice_change"] is None else f"{v['dice_change']:+.4f}"
        kept = "kept" if v["kept"] else "dropped"
        rows.append([v["module"], f"{v['gamma']:.3f}", f"{v['contrast']:.3f}", change, kept])
    return rows
