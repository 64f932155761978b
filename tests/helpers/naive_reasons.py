"""The numbers that the reasons in plans should hold, recomputed naively from synthetic fingerprints of several kinds."""

import re
from itertools import chain

import msgspec
import numpy as np

from tests.helpers.fingerprints import case_fingerprint, class_statistics
from unetrpp.core.text import format_bytes
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.options import Options
from unetrpp.planners.rules.attention import place_attention

WORDS = r"\d[dD]\w*|\d+th\b|--[\w-]+|'[^']*'|UNETR\+\+|bf16|U-Net|\(z, y, x\)"  # digits that are parts of names


def organ(extent=(10, 10, 10), x=0.0, voxels=1000):
    return msgspec.structs.replace(class_statistics(center=(x, 0.0, 0.0), extent=extent), voxels=voxels)


def cases(shapes, spacings, organs=None):
    organs = organs or [organ()] * len(shapes)
    rows = zip(shapes, spacings, organs, strict=True)
    return [case_fingerprint(f"case_{i}", shape, mm, {"organ": o}) for i, (shape, mm, o) in enumerate(rows)]


SIZES = range(1, 12)
DATASETS = {
    "isotropic": cases([(36, 50, 35)] * 50, [(1.0, 1.0, 1.0)] * 50, [organ(voxels=5000)] * 50),
    "rounded": cases([(36, 50, 35)] * 6, [(1.0 + i * 1e-8, 1.0, 1.0 - i * 1e-8) for i in range(6)]),
    "nearly anisotropic": cases([(58, 170, 178), (60, 180, 178)] * 22, [(3.27, 0.9766, 0.9766)] * 44),
    "anisotropic": cases(
        [(20, 300 + n, 300) for n in SIZES],
        [(3.5 + n / 4, 1.0, 1.0) for n in SIZES],
        [organ(extent=(n, 40 * n, 8 * n), x=70.0 + n) for n in SIZES],
    ),
    "anisotropic, all alike": cases([(18, 237, 208)] * 8, [(7.5, 1.56, 1.56)] * 8),
    "anisotropic, percentile finer than the others": cases(
        [(20, 300, 300)] * 13, [(s, 1.0, 1.0) for s in [0.8, 0.8, 1.5, 2.9] + [3.2] * 9]
    ),
    "two clusters": cases([(40, 50, 60)] * 7, [(s, 1.0, 1.0) for s in (1.0, 1.1, 1.2, 1.3, 5.0, 5.0, 6.0)]),
    "large": cases([(300, 512, 512)] * 6, [(1.0, 0.8, 0.8)] * 6, [organ(extent=(3, 300, 30 * n)) for n in SIZES[:6]]),
    "thin organ": cases([(60, 60, 60)] * 5, [(0.5, 1.0, 1.0)] * 5, [organ(extent=(1, 6, 6))] * 5),
    "one case": cases([(30, 60, 60)], [(5.0, 1.0, 1.0)]),
    "flat": cases([(1, 256, 100 + n) for n in SIZES], [(1.0, 1.0, 1.0)] * 11, [organ(extent=(1, 9, 9))] * 11),
}
OPTIONS = {
    "default": Options(gpu_memory_gb=8.0),
    "small": Options(gpu_memory_gb=1.4),
    "asked": Options(gpu_memory_gb=8.0, batch_size=3, spacing=(1.0, 2.0, 1.5)),
}


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", re.sub(WORDS, "", text))


def span(values) -> list[str]:
    return list(dict.fromkeys(f"{v:.4g}" for v in (min(values), max(values))))


class Naive:
    """What the numbers should be, by the rules of docs/planning.md, from cases and from the plans' own fields."""

    def __init__(self, found, plans, configuration, options):
        self.cases, self.plans, self.configuration, self.options = found, plans, configuration, options
        self.spacings = np.array([c.spacing_mm for c in found])
        self.shapes = np.array([c.cropped_shape for c in found])
        self.order = list(plans.configurations[next(iter(plans.configurations))].preprocessing.transpose)

    def target_spacing(self):
        spacings, text = self.spacings, []
        used = np.ones(len(spacings), bool)
        if len(spacings) == 7:  # "two clusters"
            used = spacings[:, 0] < 2
        median = np.median(spacings[used], axis=0)
        if len(spacings) > 1:
            text = [str(used.sum())] + ([str(len(used))] if not used.all() else [])
            text += chain.from_iterable(span(axis) for axis in spacings.T)
        shape, axis = np.median(self.shapes, axis=0), int(median.argmax())
        others = [a for a in range(3) if a != axis]
        if all(median[axis] > 1.5 * median[a] for a in others):
            next_axis, least = max(median[a] for a in others), min(shape[a] for a in others)
            text += [
                f"{median[axis] / next_axis:.3g}",
                f"{shape[axis]:g}",
                f"{least:g}",
                f"{least / shape[axis]:.3g}",
                "3",
            ]
            if median[axis] > 3 * next_axis and shape[axis] * 3 < least:
                tenth = np.percentile(spacings[used, axis], 10)
                if tenth < next_axis:
                    text += [f"{next_axis:.4g}", f"{tenth:.4g}"]
                elif np.isclose(tenth, median[axis]):
                    text += [f"{tenth:.4g}"]
                else:
                    text += [f"{tenth:.4g}", f"{median[axis]:.4g}"]
                median[axis] = max(tenth, next_axis)
        return [*(f"{mm:.4g}" for mm in median), *text] if self.options.spacing else text

    def axis_order(self):
        spacing = self.plans.configurations[next(iter(self.plans.configurations))].preprocessing.spacing_mm
        if None in spacing:
            return ["1"]  # flat: one voxel
        first, others = spacing[0], list(spacing[1:])
        if any(np.isclose(others, first, rtol=1e-3)):
            return [f"{first:.4g}", "0.1"]
        return [f"{first:.4g}", *dict.fromkeys(f"{mm:.4g}" for mm in others)]

    def mirroring(self):
        widths = self.shapes[:, 2] * self.spacings[:, 2]
        offsets = np.array([c.classes["organ"].center_lps_mm[0] for c in self.cases]) / widths
        middle = f"{abs(np.median(offsets)) * 100:.0f}"
        if len(self.cases) < 3:
            return []
        beside = (offsets > 0).mean()
        return (
            [f"{beside * 100:.0f}", str(len(offsets)), middle, "90", "15"]
            if np.median(offsets) >= 0.15
            else [middle, "15"]
        )

    def initial_prediction(self):
        share = np.mean([c.classes["organ"].voxels / np.prod(c.cropped_shape) for c in self.cases])
        return [f"{1 - max(share, 0.01):.2g}", *(["1", "0.01"] if share < 0.01 else [])]

    def normalisation(self):
        return ["0", "1"]

    def median_image(self):
        return [f"{mm:.4g}" for mm in self.spacing()]

    def spacing(self):
        spacing = self.configuration.preprocessing.spacing_mm
        return spacing if None not in spacing else spacing[1:]

    def shape(self):
        """Of the median image along the axes of the patch."""
        return self.whole_shape()[-len(self.configuration.patch) :]

    def whole_shape(self):
        own = np.median(self.spacings, axis=0)[self.order]
        first = next(iter(self.plans.configurations.values())).preprocessing.spacing_mm
        spacing = [mm if full is None else full for mm, full in zip(own, first, strict=True)]
        pairs = zip(self.shapes, self.spacings, strict=True)
        return np.median([np.round(n[self.order] * mm[self.order] / spacing) for n, mm in pairs], axis=0)

    def divisors(self):
        return [
            int(np.prod([level.stride[a] for level in self.configuration.architecture.levels]))
            for a in range(len(self.configuration.patch))
        ]

    def patch(self):
        gigabytes = [f"{self.options.gpu_memory_gb:g}", "10", "1", str(self.options.batch_size or 2)]
        shape, patch = self.shape(), self.configuration.patch
        why = next(d.why for d in self.configuration.decisions if d.about == "patch")
        if "reduced from" in why:
            assert any(n < m for n, m in zip(patch, shape, strict=True))
            return None  # the steps: tests/planners/rules/test_topology.py
        padded = [str(d) for d in self.divisors()] if any(n > m for n, m in zip(patch, shape, strict=True)) else []
        if any(n < int(m) for n, m in zip(patch, shape, strict=True)):  # the first patch is limited
            return ["256", "3", *(f"{m:g}" for m in shape), *gigabytes]
        return [*([f"{m:g}" for m in shape] if padded else []), *padded, *gigabytes]

    def downsampling(self):
        rest = [n // d for n, d in zip(self.configuration.patch, self.divisors(), strict=True)]
        return ["8", "2", *(f"{mm:.4g}" for mm in self.spacing()), "12", *map(str, rest)]

    def batch_size(self):
        voxels = len(self.cases) * np.prod(self.shape())
        if len(self.configuration.patch) == 2:
            voxels *= self.whole_shape()[0]
        share = 0.05 * voxels / np.prod(self.configuration.patch)
        patches = f"{share:.2g}" if share < 10 else f"{share:.0f}"
        memory = training_memory(place_attention(self.configuration.architecture, "auto")[0])
        allowed = str(int(((self.options.gpu_memory_gb * 0.9 - 1) * 1024**3 - memory.fixed) / memory.a_patch))
        needed = numbers(format_bytes(round(memory.of(self.configuration.batch_size))))
        if self.options.batch_size:
            return [allowed, "5", patches, *needed]
        if share < 2 and int(allowed) >= 2:
            return ["5", patches, "2", allowed, *needed]
        if int(allowed) < 2:
            return [allowed, "2", "5", patches, *needed]
        return [allowed, "5", patches, *needed] if int(allowed) <= share else ["5", patches, allowed, *needed]

    def rotation(self):
        patch = self.configuration.patch
        first = min(patch) if len(patch) == 2 else patch[0]
        limit = ["1.5", "15"] if len(patch) == 2 else ["3"]
        return [f"{max(patch) / first:.3g}", str(max(patch)), str(first), *limit]

    def dice(self):
        if len(self.configuration.patch) == 2:
            return []
        share = np.prod(self.configuration.patch) / np.prod(self.shape())
        text = [f"{min(share, 1) * 100:.0f}" if share >= 0.01 else f"{share * 100:.1g}"]
        return text if share >= 0.25 else [*text, "25", None, "2"]  # None: of the low resolution, which is searched for
