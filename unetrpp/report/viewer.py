"""The viewer of a page: which cases it holds pictures of, and what its script needs to know of them."""

import base64
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files

from unetrpp.core.errors import UserError, in_words
from unetrpp.core.progress import progress_bar
from unetrpp.core.text import counted, counted_of
from unetrpp.dataset.labels import LabelScheme
from unetrpp.plotting.colors import PALETTE
from unetrpp.report.case_images import CaseImages
from unetrpp.report.case_table import CaseTable, CaseVolumes
from unetrpp.report.embedding import Embedded, embed_case
from unetrpp.report.grey_levels import is_ct
from unetrpp.report.label_codes import LabelCodes

LOG = logging.getLogger(__name__)
MOST_PICTURES = 40  # cases
MOST_CHARACTERS = 24_000_000  # of all pictures together, so that the page stays below 30 MB
MOST_OF_A_CASE = 4_000_000
SCRIPTS = ("table.js", "slices.js", "viewer.js", "controls.js")  # in templates/

# Level and width in Hounsfield units, as usual in radiology.
CT_PRESETS = {
    "soft tissue": (40, 400),
    "liver": (60, 150),
    "brain": (40, 80),
    "lung": (-600, 1500),
    "bone": (400, 1800),
}

Load = Callable[[], CaseImages]  # reads the images of one case


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page: by case an :class:`Embedded` one, or why there is none."""

    embedded: Mapping[str, Embedded] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Viewer:
    """What the templates need for a table of cases and a viewer.

    Attributes:
        table: the cases, in their first order.
        volumes: by case, the size of its classes.
        warnings: by case.
    """

    labels: LabelScheme
    channels: Sequence[str]
    table: CaseTable
    pictures: Pictures
    volumes: Mapping[str, CaseVolumes] = field(default_factory=dict)
    warnings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, object]:
        """What the script reads as JSON; the pictures stand beside it, in the order of ``cases``."""
        names = LabelCodes.of(self.labels).names
        return {
            "classes": [{"name": name, "color": PALETTE[i % len(PALETTE)]} for i, name in enumerate(names)],
            "channels": list(self.channels),
            "presets": [CT_PRESETS if is_ct(channel) else {} for channel in self.channels],
            "cases": [self._about(case) for case in self.table.cases],
        }

    @property
    def data(self) -> list[tuple[int, str]]:
        """The place of a case in the table, and its picture."""
        embedded = self.pictures.embedded
        return [(i, embedded[case].data) for i, case in enumerate(self.table.cases) if case in embedded]

    @property
    def coverage(self) -> str:
        """How many cases have a picture."""
        shown, total = len(self.pictures.embedded), len(self.table.cases)
        if not shown:
            return "This page holds no pictures of cases."
        if shown == total:
            return f"This page holds a picture of {'every case' if total > 1 else 'the case'}."
        return (
            f"{counted_of(shown, total, 'case', 'has/have')} a picture in this page; the others are listed without one."
        )

    @property
    def drawn(self) -> str:
        """How the pictures show what was predicted, and what a reader drew where a case has that."""
        embedded = self.pictures.embedded.values()
        if not embedded:
            return ""
        outlined = " Reference: outline." if any(picture.about.reference for picture in embedded) else ""
        return f"Prediction: filled.{outlined}"

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Why cases have no picture, each reason once, with how many cases it is true of."""
        reasons: dict[str, list[str]] = {}
        for case in self.table.cases:
            if case in self.pictures.missing:
                reasons.setdefault(self.pictures.missing[case], []).append(case)
        return [(cases[0] if len(cases) == 1 else counted(len(cases), "case"), why) for why, cases in reasons.items()]

    @cached_property
    def script(self) -> str:
        """The page's only program."""
        return page_script()

    @property
    def policy(self) -> str:
        """The page's Content-Security-Policy: the browser runs this one script, and fetches nothing."""
        return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_source(self.script)}"

    def _about(self, case: str) -> dict[str, object]:
        embedded = self.pictures.embedded.get(case)
        return {
            "name": case,
            "picture": asdict(embedded.about) if embedded else None,
            "missing": self.pictures.missing.get(case, ""),
            "sizes": self.volumes[case].texts() if case in self.volumes else {},
            "warnings": list(self.warnings.get(case, ())),
        }


def page_script() -> str:
    """The script of every page with a viewer."""
    folder = files("unetrpp.report") / "templates"
    return "".join((folder / name).read_text(encoding="utf8") for name in SCRIPTS)


def script_source(script: str) -> str:
    """How a Content-Security-Policy names one script, by its SHA-256.

    >>> script_source("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def embed_cases(
    sources: Mapping[str, Load],
    labels: LabelScheme,
    channels: Sequence[str],
    *,
    absent: Mapping[str, str] | None = None,
) -> Pictures:
    """Read and compress the pictures of the first 40 cases of ``sources``, one after the other.

    A case that cannot be read has none, and the others do not suffer from it. ``absent`` are cases that have no source, with
    the reason.
    """
    chosen = dict(list(sources.items())[:MOST_PICTURES])
    largest = min(MOST_OF_A_CASE, MOST_CHARACTERS // max(len(chosen), 1))
    codes = LabelCodes.of(labels)
    embedded: dict[str, Embedded] = {}
    failed: dict[str, str] = {}
    with progress_bar("pictures", len(chosen)) as bar:
        for case, load in chosen.items():
            try:
                embedded[case] = embed_case(load(), codes, channels, largest)
            except Exception as error:
                LOG.debug("%s has no picture", case, exc_info=error)
                failed[case] = str(error.args[0]) if isinstance(error, UserError) else in_words(error)
                LOG.warning("%s has no picture in the page: %s", case, failed[case])
            bar.update()
    left_out = dict.fromkeys(list(sources)[MOST_PICTURES:], f"a page holds pictures of at most {MOST_PICTURES} cases")
    return Pictures(embedded, failed | left_out | dict(absent or {}))
