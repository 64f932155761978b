"""The attention report: what the focal modules of one fold do on one case, as tables and pictures on one page."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json_lines, write_bytes
from unetrpp.core.text import format_shape
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.metrics import Scores, scored_classes
from unetrpp.evaluation.summary import mean_scores
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_image
from unetrpp.model.folder import Checkpoint, ModelFolder
from unetrpp.networks.epa import PairedAttention
from unetrpp.report.attention_case import find_case, label_on_grid, require_modules
from unetrpp.report.attention_maps import AttentionFindings, inspect_case
from unetrpp.report.attention_picture import draw_channels, draw_maps
from unetrpp.report.page import Rows, render_page, require_page

MOST_CLASSES = 5  # with columns of their own in the table of modules


def write_attention_report(
    model: Path | str,
    case: str | Path | Sequence[str | Path],
    *,
    label: Path | str | None = None,
    fold: str | int | None = None,
    checkpoint: Checkpoint = "final",
    device: str = "auto",
    output: Path | str | None = None,
    workspace: Path | str | None = None,
) -> tuple[Path, Rows]:
    """Show every focal module of a fold on one case, as `unetrpp_attention_report` does.

    Args:
        model: a model folder.
        case: the id of a training case of the dataset in the workspace, or the files of an image, one per channel.
        label: of an image given by its files; without one the page has no Dice.
        fold: a number, or "all" for fold_all; by default the first that is trained.
        checkpoint: final, best or latest.
        device: auto, cpu, cuda, cuda:1 or mps.
        output: by default attention_CASE.html in the fold's folder.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.

    Returns:
        The page's path and :func:`modules_table`.

    Raises:
        UserError: no model folder, an untrained fold or one without focal modules, an unknown case, an image or label
            that cannot be read, or ``output`` is a file that is not a page.
    """
    opened = ModelFolder.open(Path(model))
    chosen, *others = opened.choose_folds(fold, checkpoint)
    if others and fold is not None:
        raise UserError(f"fold is {fold}, but the report is about one fold; give a number, or fold_all")
    require_modules(opened, chosen)
    home = None if workspace is None else Path(workspace)
    given = [str(case)] if isinstance(case, str | Path) else [str(part) for part in case]
    name, files, known = find_case(given, None if label is None else Path(label), opened, home)
    path = opened.path / f"fold_{chosen}" / f"attention_{name}.html" if output is None else Path(output)
    require_page(path)
    predictor = Predictor(opened.path, folds=[chosen], device=device, mirroring=False, checkpoint=checkpoint)
    image, labels = read_image(files), opened.plans.labels
    findings = inspect_case(predictor, image, label_on_grid(known, image, labels, name), name)
    write_bytes(path, attention_page(predictor, findings, name).encode())
    return path, modules_table(findings, labels)


def attention_page(predictor: Predictor, findings: AttentionFindings, case: str) -> str:
    """The page about the predictor's one fold on ``case``."""
    model, (fold,) = predictor.model, predictor.folds
    folder, labels = model.path / f"fold_{fold}", model.plans.labels
    history = folder / "gammas.png"
    return render_page(
        "attention.html",
        title=f"Attention of {model.path.resolve().name}, fold {fold}, on {case}",
        modules=modules_table(findings, labels),
        maps=draw_maps(findings, labels),
        channels=draw_channels(findings),
        temperatures=temperatures_table(predictor.networks[0]),
        judgement=judgement_table(folder),
        gammas=history.read_bytes() if history.is_file() else None,
    )


def modules_table(findings: AttentionFindings, labels: LabelScheme) -> Rows:
    """A header and one row per module: stride, gamma, mean, contrast, and Dice with the coefficients and with their mean.

    Dice is that of every class, or above five classes their mean.
    """
    classes = scored_classes(labels) if findings.scores is not None else ()
    shown = [(scored.name, [scored.key]) for scored in classes]
    if len(classes) > MOST_CLASSES:
        shown = [(f"mean of {len(classes)} classes", [scored.key for scored in classes])]
    header = ["module", "stride", "gamma", "mean", "contrast"]
    for name, _ in shown:
        header += [f"Dice {name}", "with mean", "change"]
    rows = [header]
    for m in findings.modules:
        row = [m.place, format_shape(m.stride), f"{m.gamma:.3f}", f"{m.mean:.3f}", f"{m.contrast:.3f}"]
        for _, keys in shown:
            row += _change(_dice(findings.scores, keys), _dice(m.scores, keys))
        rows.append(row)
    return rows


def _dice(scores: dict[str, Scores] | None, keys: Sequence[str]) -> float | None:
    """The mean Dice of the classes where it is defined."""
    return None if scores is None else mean_scores([scores[key] for key in keys])["Dice"]


def _change(before: float | None, after: float | None) -> list[str]:
    """Both values and their difference; four decimals, as a module's effect is often small."""
    change = "-" if before is None or after is None else f"{after - before:+.4f}"
    return ["-" if before is None else f"{before:.4f}", "-" if after is None else f"{after:.4f}", change]


def temperatures_table(network: nn.Module) -> Rows:
    """One row per stage with EPA: mean (smallest to largest) softmax temperature over its blocks and heads."""
    stages: dict[str, list[PairedAttention]] = {}
    for name, module in network.named_modules():
        if isinstance(module, PairedAttention):
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
    """What attention learning decided in this fold, from its metrics.jsonl; empty where it decided nothing."""
    judged = next((entry for entry in read_json_lines(fold / "metrics.jsonl") if "judgement" in entry), None)
    if judged is None:
        return []
    rows = [["module", "gamma", "contrast", "Dice change", f"judged after epoch {judged['epoch']}"]]
    for v in judged["judgement"]:
        change = "-" if v["dice_change"] is None else f"{v['dice_change']:+.4f}"
        kept = "kept" if v["kept"] else "dropped"
        rows.append([v["module"], f"{v['gamma']:.3f}", f"{v['contrast']:.3f}", change, kept])
    return rows
