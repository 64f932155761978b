"""The plan report as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass

from unetrpp import __version__
from unetrpp.core.text import counted, format_bytes, format_shape
from unetrpp.planners.report.changes import changes, patch_share
from unetrpp.planners.report.drawing import Drawing, draw_network
from unetrpp.planners.report.levels import attention_reason, level_rows, level_words
from unetrpp.planners.report.measured import (
    MOST_CLASSES,
    class_header,
    class_rows,
    class_summary,
    cropping_matters,
    intensity_rows,
    regions_sentence,
    size_rows,
    units_of,
)
from unetrpp.planners.report.picture import draw_classes, draw_panel, plan_panels
from unetrpp.planners.report.resampling import resampling_rows
from unetrpp.planners.rules.wording import axis_names
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans
from unetrpp.report.decisions import decision_cards
from unetrpp.report.page import Rows, render_page

NETWORKS = {  # what they are called, and how skip connections and the decoder's features meet
    "unetrpp": ("UNETR++", "added to"),
    "unet": ("U-Net", "concatenated with"),
    "resunet": ("Residual U-Net", "concatenated with"),
}


def plan_page(fingerprint: Fingerprint, plans: Plans, folds: str = "") -> str:
    """The page; ``folds`` is the sentence in splits.json on how the cases were split."""
    names = axis_names(plans.file_ending)
    cropped = cropping_matters(fingerprint)
    return render_page(
        "plan.html",
        title=f"Plan of {plans.dataset}",
        lead=_lead(fingerprint, plans),
        tiles=_tiles(fingerprint, plans),
        warnings=plans.warnings,
        left_out=[["case", "reason"], *([case, left.reason] for case, left in fingerprint.left_out.items())]
        if fingerprint.left_out
        else [],
        sizes=size_rows(fingerprint, names),
        cropped=cropped,
        panels=[(panel, draw_panel(panel)) for panel in plan_panels(fingerprint, plans)],
        intensities=intensity_rows(fingerprint, plans),
        classes=class_rows(fingerprint),
        main_classes=_main_classes(fingerprint),
        regions=regions_sentence(plans.labels),
        class_picture=draw_classes(fingerprint),
        class_size=units_of(fingerprint).what,
        decisions=decision_cards(plans.decisions),
        configurations=[
            (
                name,
                decision_cards(each.decisions),
                _network(fingerprint, each),
                resampling_rows(fingerprint, each, names),
            )
            for name, each in plans.configurations.items()
        ],
        changes=changes(fingerprint, plans),
        cases=_case_rows(fingerprint, names),
        facts=_facts(plans, folds),
    )


@dataclass(frozen=True)
class _Network:
    """The planned network: a sentence, the drawing and the same as a table."""

    text: str
    drawing: Drawing
    rows: Rows


def _network(fingerprint: Fingerprint, configuration: Configuration) -> _Network:
    architecture, levels = configuration.architecture, level_words(fingerprint, configuration)
    name, joined = NETWORKS.get(architecture.network, (architecture.network, "joined to"))
    text = f"{name} with {counted(len(levels), 'level')}, its encoder at the left and its decoder at the right. Skip connections are "
    text += f"{joined} the decoder's features. {attention_reason(configuration)}"
    inputs = counted(architecture.in_channels, "channel")
    drawing = draw_network(levels, inputs=inputs, from_image=architecture.network == "unetrpp")
    return _Network(text.strip(), drawing, level_rows(levels))


def _lead(fingerprint: Fingerprint, plans: Plans) -> str:
    """The plan in a few sentences."""
    classes = counted(len(plans.labels.targets), *(["region"] if plans.labels.regions else ["class", "classes"]))
    kind = ("photograph" if fingerprint.in_pixels else "flat image") if fingerprint.flat else "volume"
    images = counted(len(fingerprint.cases), kind)
    what = f"{images} ({', '.join(plans.channel_names)}) with {classes}."
    return " ".join([what, *(_says(fingerprint, name, each) for name, each in plans.configurations.items())])


def _says(fingerprint: Fingerprint, name: str, configuration: Configuration) -> str:
    flat = len(configuration.patch) == 2
    unit, whole = ("pixels", "slice") if flat and not fingerprint.flat else ("pixels" if flat else "voxels", "image")
    share = patch_share(fingerprint, configuration)
    return (
        f"In {name} the network sees patches of {format_shape(configuration.patch)} {unit}, {share:.0%} of a median {whole}, and learns "
        f"from {configuration.batch_size} of them per step."
    )


def _tiles(fingerprint: Fingerprint, plans: Plans) -> list[tuple[str, str]]:
    first, configuration = next(iter(plans.configurations.items()))
    pixels = fingerprint.in_pixels
    spacing = [f"{mm:.3g}" for mm in configuration.preprocessing.spacing_mm if mm is not None]
    return [
        ("cases", str(len(fingerprint.cases))),
        ("regions" if plans.labels.regions else "classes", str(len(plans.labels.targets))),
        *([] if pixels else [("resampled to (mm)", " x ".join(spacing))]),
        (f"patch of {first}", format_shape(configuration.patch)),
        ("memory per training step", format_bytes(configuration.training_memory_bytes)),
        ("network", configuration.architecture.network),
    ]


def _main_classes(fingerprint: Fingerprint) -> Rows:
    """Of more than fifteen classes: the largest, the smallest and the rarest."""
    if len(fingerprint.cases[0].classes) <= MOST_CLASSES:
        return []
    rows = [["", *class_header(fingerprint)]]
    return rows + [[title, *found.row] for title, group in class_summary(fingerprint) for found in group]


def _case_rows(fingerprint: Fingerprint, names: Sequence[str]) -> Rows:
    """Every case with its size, so that an outlier of the pictures can be found."""
    axes = range(1 if fingerprint.flat else 0, 3)
    order = ", ".join("zyx"[axis] for axis in axes)
    unit = "pixels" if fingerprint.flat else "voxels"
    rows = [
        [
            "case",
            f"{unit} ({order})",
            *([] if fingerprint.in_pixels else [f"mm per {unit[:-1]} ({order})"]),
            "kept by cropping",
        ]
    ]
    for case in fingerprint.cases:
        spacing = [] if fingerprint.in_pixels else [" x ".join(f"{case.spacing_mm[axis]:.4g}" for axis in axes)]
        kept = f"{_product(case.cropped_shape) / _product(case.shape):.0%}"
        rows.append([case.case, format_shape([case.shape[axis] for axis in axes]), *spacing, kept])
    return rows


def _product(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _facts(plans: Plans, folds: str) -> Rows:
    options = ", ".join(f"{key} {value}" for key, value in plans.options.items())
    return [
        ["what", "value"],
        ["plans", f"{plans.name}, by the planner {plans.planner}"],
        ["asked for", options or "no options, all by the rules"],
        *([["folds", folds]] if folds else []),
        ["report written by", f"unetrpp {__version__}"],
    ]
