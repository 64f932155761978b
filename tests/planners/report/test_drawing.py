"""The drawing of a network: what it holds for random architectures, and that nothing in it overlaps or is cut off."""

import itertools
from typing import Any
from xml.etree import ElementTree

import matplotlib
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, PackageLoader
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from tests.planners.report.test_page import planned
from unetrpp.planners.report.drawing import draw_network
from unetrpp.planners.report.levels import level_words
from unetrpp.plans.architecture import Architecture, Level
from unetrpp.plans.plans import Decision

MEASURED, PLANS = planned()
CONFIGURATION = PLANS.configurations["3d_fullres"]
PIXELS = {"name": (13, "bold"), "value": (12, "bold"), "fact": (12, "normal"), "why": (11.5, "normal")}  # style.html
PAGE = 1048  # CSS pixels between the page's margins

gammas = st.none() | st.sampled_from([0.0, 0.5, 1.0, 1.2345])


@st.composite
def architectures(draw):
    dimensions, count = draw(st.sampled_from([2, 3])), draw(st.integers(2, 8))
    steps = st.sampled_from([1, 2] if count > 5 else [1, 2, 4])
    strides = [(1,) * dimensions, *(tuple(draw(steps) for _ in range(dimensions)) for _ in range(count - 1))]
    product = [1] * dimensions
    for stride in strides:
        product = [p * s for p, s in zip(product, stride, strict=True)]
    levels = tuple(
        Level(
            stride=stride,
            kernel=draw(st.sampled_from([(1,) * dimensions, (3,) * dimensions])),
            channels=draw(st.sampled_from([8, 32, 320])),
            encoder_blocks=draw(st.integers(1, 9)),
            decoder_blocks=0 if i == count - 1 else draw(st.integers(1, 9)),
            attention=draw(st.sampled_from(["epa", "conv"])),
            cell=draw(st.none() | st.just((16,) * dimensions)),
            token=draw(st.none() | st.just((2,) * dimensions)),
            gate=None if i == count - 1 else draw(gammas),
            squeeze_excitation=draw(gammas),
        )
        for i, stride in enumerate(strides)
    )
    return Architecture(
        network=draw(st.sampled_from(["unetrpp", "unet", "resunet", "package_network"])),
        in_channels=draw(st.integers(1, 40)),
        out_channels=2,
        patch=tuple(2 * p for p in product),
        levels=levels,
        supervised_levels=draw(st.integers(1, count - 1)),
        gates=draw(st.sampled_from(["additive", "focus"])),
    )


def decisions_for(architecture, why):
    """Three decisions a level, as the rule makes them."""
    for i in range(len(architecture.levels)):
        for module in ("skip", "squeeze-and-excitation", "blocks"):
            yield Decision(about=f"{module} at level {i}", value="focal gate, gamma 0.53", why=why)


def drawn(architecture, why=""):
    decisions = tuple(decisions_for(architecture, why)) if why else ()
    configuration = msgspec.structs.replace(CONFIGURATION, architecture=architecture, decisions=decisions)
    levels = level_words(MEASURED, configuration)
    unetrpp = architecture.network == "unetrpp"
    return draw_network(levels, inputs=f"{architecture.in_channels} channels", from_image=unetrpp)


def svg(drawing, title="The network of 3d_fullres"):
    pages = Environment(loader=PackageLoader("unetrpp.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    macros: Any = pages.get_template("network.html").module
    content = macros.network(drawing, title, "The table says the same.", "network-1")
    (picture,) = ElementTree.fromstring(str(content)).iter("svg")
    return picture


def texts_in(picture, rect):
    """The words of the texts whose anchor is inside a rectangle, in order."""
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return [
        text.text
        for text in picture.iter("text")
        if x < float(text.get("x")) < x + width and y < float(text.get("y")) < y + height
    ]


def boxes_of(picture, *kinds):
    """From top to bottom: the words in every box of these kinds."""
    found = [rect for rect in picture.iter("rect") if rect.get("class") in kinds]
    return [" ".join(texts_in(picture, rect)) for rect in sorted(found, key=lambda rect: float(rect.get("y")))]


def in_words(gamma):
    return f"gamma {gamma:.3g}" if gamma else "gamma 0 (off)"


def epa_blocks(architecture):
    """EPA blocks of the levels that have them, those of the encoder and of the decoder, by the definition of the networks."""
    network = architecture.network
    levels = [
        level
        for i, level in enumerate(architecture.levels)
        if level.attention == "epa" and network not in ("unet", "resunet") and (i > 0 or network != "unetrpp")
    ]
    counts = [n for level in levels for n in (level.encoder_blocks, level.decoder_blocks) if n]
    return counts, [bool(level.cell) for level in levels for n in (level.encoder_blocks, level.decoder_blocks) if n]


@given(
    architecture=architectures(),
    why=st.sampled_from(["", "1.55 bits to find the foreground, 0.98 at stride 8: 0.57 more"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_the_architecture(architecture, why):
    picture = svg(drawn(architecture, why))
    levels = architecture.levels
    prefix = "gate focus, " if architecture.gates == "focus" else "gate "
    assert boxes_of(picture, "gate") == [prefix + in_words(v.gate) for v in levels if v.gate is not None]
    squeezes = [v.squeeze_excitation for v in levels if v.squeeze_excitation is not None]
    assert boxes_of(picture, "squeeze") == [f"squeeze-and-excitation {in_words(gamma)}" for gamma in squeezes]
    assert boxes_of(picture, "head") == ["output", *["head"] * (architecture.supervised_levels - 1)]
    counts, pooled = epa_blocks(architecture)
    assert sorted(int(words.split()[0]) for words in boxes_of(picture, "epa", "pooled")) == sorted(counts)
    assert len(boxes_of(picture, "pooled")) == sum(pooled)
    assert len(boxes_of(picture, "epa", "pooled", "convolution")) == 2 * len(levels) - 1
    words = [text.text for text in picture.iter("text")]
    stride = [1] * architecture.dimensions
    for level in levels:
        stride = [s * t for s, t in zip(stride, level.stride, strict=True)]
        size = [n // s for n, s in zip(architecture.patch, stride, strict=True)]
        assert f"stride {' x '.join(map(str, stride))}" in " ".join(words)
        assert " x ".join(map(str, size)) in " ".join(words)
        assert f"{level.channels} channels" in words
    assert " ".join(words).count("1.55 bits") == (3 * len(levels) if why else 0)


@given(architecture=architectures(), why=st.sampled_from(["", "short", "a reason of many words " * 12]))
@settings(max_examples=60, deadline=None)
def test_no_box_overlaps_another_and_all_lie_inside(architecture, why):
    drawing = drawn(architecture, why)
    assert drawing.width <= PAGE
    for one, other in itertools.combinations(drawing.boxes, 2):
        apart = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y, (one, other)
    for box in drawing.boxes:
        assert 0 <= box.x < box.x + box.width <= drawing.width
        assert 0 <= box.y < box.y + box.height <= drawing.height
        for text in box.texts:
            assert box.x <= text.x <= box.x + box.width
            assert box.y + 8 <= text.y <= box.y + box.height - 3
    own = {(text.x, text.y) for text in drawing.texts}
    assert len(own) == len(drawing.texts)
    for text in drawing.texts:
        assert 10 < text.y < drawing.height
        assert not any(box.x - 6 < text.x < box.x + box.width for box in drawing.boxes)
    for one, other in itertools.combinations(drawing.texts, 2):
        assert one.x != other.x or abs(one.y - other.y) >= 15


def test_every_text_fits_its_column_in_a_wide_font():
    """DejaVu Sans, of which the letters are wider than those of the fonts that the page names."""
    wide = FontProperties(fname=f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf")
    bold = FontProperties(fname=f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf")
    levels = [
        Level(
            stride=(2, 4, 4) if i else (1, 1, 1),
            kernel=(3, 3, 3),
            channels=320,
            encoder_blocks=6,
            decoder_blocks=6 * (i < 3),
            attention="epa" if i < 3 else "conv",
            cell=(4, 16, 16) if i in (1, 2) else None,
            token=(2, 4, 4) if i == 1 else None,
            gate=0.53 if i < 3 else None,
            squeeze_excitation=1.25,
        )
        for i in range(4)
    ]
    architecture = Architecture(
        network="package_network",
        in_channels=12,
        out_channels=2,
        patch=(64, 512, 512),
        levels=tuple(levels),
        supervised_levels=3,
        gates="focus",
    )
    why = "4.24 bits to find the foreground, 2.49 at the bottleneck: 1.75 more (a gate if at least 0.5); 2 is the largest gamma"
    drawing = drawn(architecture, why)

    def width(text):
        size, weight = PIXELS[text.style]
        box = TextPath((0, 0), text.words, size=size, prop=bold if weight == "bold" else wide).get_extents()
        return float(box.x1)

    for box in drawing.boxes:
        assert all(width(text) <= box.width - 2 for text in box.texts), box
    right = {0: 176, 764: PAGE}
    assert {text.x for text in drawing.texts} == right.keys()
    for text in drawing.texts:
        assert text.x + width(text) <= right[int(text.x)], text


@given(architecture=architectures())
@settings(max_examples=30, deadline=None)
def test_arrows_are_straight_and_start_and_end_at_boxes(architecture):
    drawing = drawn(architecture)

    def touches(point, box):
        x, y = point
        beside = box.y <= y <= box.y + box.height and x in (box.x, box.x + box.width)
        return beside or (box.x <= x <= box.x + box.width and y in (box.y, box.y + box.height))

    def inside(point, box):
        x, y = point
        return box.x + 1 < x < box.x + box.width - 1 and box.y + 1 < y < box.y + box.height - 1

    for arrow in drawing.arrows:
        assert any(touches(arrow.points[0], box) for box in drawing.boxes)
        assert any(touches(arrow.points[-1], box) for box in drawing.boxes)
        for (x0, y0), (x1, y1) in itertools.pairwise(arrow.points):
            assert x0 == x1 or y0 == y1
            steps = [(x0 + (x1 - x0) * k / 50, y0 + (y1 - y0) * k / 50) for k in range(51)]
            assert not any(inside(step, box) for step in steps for box in drawing.boxes)
        (x, y), *base = arrow.head
        assert (x, y) == arrow.points[-1]
        assert sum(abs(b[0] - x) + abs(b[1] - y) for b in base) == pytest.approx(20)
    count = len(architecture.levels)
    gates = sum(level.gate is not None for level in architecture.levels)
    assert len(drawing.arrows) == 1 + 2 * (count - 1) + (count - 1) + gates + architecture.supervised_levels


def test_text_is_escaped_and_a_reader_gets_a_title_and_a_description():
    architecture = CONFIGURATION.architecture
    drawing = drawn(architecture, "<script>alert('&\"')</script>")
    picture = svg(drawing, "a < b & c")
    assert "<script>" in " ".join(text.text for text in picture.iter("text"))
    assert [child.text for child in picture][:2] == ["a < b & c", "The table says the same."]
    assert picture.get("aria-labelledby") == " ".join(child.get("id") for child in list(picture)[:2])
    assert picture.get("role") == "img"


def test_a_network_of_one_level_has_its_output_at_the_encoder():
    only = msgspec.structs.replace(CONFIGURATION.architecture.levels[0], decoder_blocks=0)
    architecture = msgspec.structs.replace(CONFIGURATION.architecture, levels=(only,), supervised_levels=1)
    picture = svg(drawn(architecture))
    assert boxes_of(picture, "head") == ["output"]
    assert len(boxes_of(picture, "convolution")) == 1
