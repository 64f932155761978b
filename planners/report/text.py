"""The plan report as text: what was measured, every decision with its reason, warnings."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from unetrpp.core.text import text_table
from unetrpp.plans.fingerprint import ClassStatistics, Fingerprint
from unetrpp.plans.plans import Decision, Plans

WIDTH = 118
INDENT = "  "


def report_text(fingerprint: Fingerprint, plans: Plans, folds: str = "") -> str:
    """The whole report; ``folds`` is the sentence in splits.json on how the cases were split."""
    lines = [f"{plans.dataset}: plans {plans.name!r} by the planner {plans.planner!r}"]
    if plans.options:
        lines.append("asked for: " + ", ".join(f"{key} {value}" for key, value in plans.options.items()))
    lines += [f"folds: {folds}"] if folds else []
    lines += [
        "",
        f"Measured on {len(fingerprint.cases)} cases",
        text_table(list(_measured(fingerprint)), indent=INDENT),
    ]
    lines += [
        "",
        "Labels (medians over the cases that have them)",
        text_table(list(_labels(fingerprint)), indent=INDENT),
    ]
    lines += ["", "Decided for every configuration", *decisions(plans.decisions)]
    for name, configuration in plans.configurations.items():
        lines += ["", f"Decided for {name}", *decisions(configuration.decisions)]
    if plans.warnings:
        lines += ["", "Warnings", *(line for warning in plans.warnings for line in _wrapped(warning, "- "))]
    return "\n".join(lines)


def _measured(fingerprint: Fingerprint) -> Iterator[tuple[str, ...]]:
    yield "", "smallest", "median", "largest"
    for axis, name in enumerate(("z", "y", "x")):
        yield f"voxels along {name}", *_range([c.shape[axis] for c in fingerprint.cases])
    for axis, name in enumerate(("z", "y", "x")):
        yield f"mm per voxel along {name}", *_range([c.spacing_mm[axis] for c in fingerprint.cases])
    kept = [np.prod(c.cropped_shape) / np.prod(c.shape) for c in fingerprint.cases]
    yield "share kept by cropping", *(f"{value:.0%}" for value in (min(kept), float(np.median(kept)), max(kept)))
    for i, channel in enumerate(fingerprint.intensities):
        values = (channel.percentile_00_5, channel.median, channel.percentile_99_5)
        yield f"intensity {i}, 0.5-99.5 %", *(f"{value:.4g}" for value in values)


def _range(values: Sequence[float]) -> tuple[str, str, str]:
    return f"{min(values):.4g}", f"{float(np.median(values)):.4g}", f"{max(values):.4g}"


def _labels(fingerprint: Fingerprint) -> Iterator[tuple[str, ...]]:
    yield "", "in cases", "volume ml", "components", "radius mm", "surface/volume 1/mm"
    for name in fingerprint.cases[0].classes:
        present = [c.classes[name] for c in fingerprint.cases if c.classes[name].voxels]
        share = f"{len(present) / len(fingerprint.cases):.0%}"
        yield (name, share, *_medians(present)) if present else (name, share, "", "", "", "")


def _medians(present: Sequence[ClassStatistics]) -> tuple[str, ...]:
    columns = (
        [s.volume_mm3 / 1000 for s in present],
        [s.components for s in present],
        [s.component_radii_mm[0] for s in present],
        [s.surface_to_volume_per_mm or 0.0 for s in present],
    )
    return tuple(f"{float(np.median(values)):.3g}" for values in columns)


def decisions(items: Sequence[Decision]) -> list[str]:
    """Subject and value on one line, the reason below it."""
    about = max((len(d.about) for d in items), default=0)
    lines = []
    for decision in items:
        lines.append(f"{INDENT}{decision.about:{about}s}  {decision.value}")
        lines += _wrapped(decision.why, " " * (about + 2))
    return lines


def _wrapped(text: str, start: str) -> list[str]:
    rest = INDENT + " " * len(start)
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT + start, subsequent_indent=rest, break_on_hyphens=False)
