"""The planned network drawn as a U: where every box, text and arrow is, in CSS pixels. templates/network.html writes it as SVG."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unetrpp.planners.report.levels import Blocks, LevelWords

# Columns from left to right: the level's sizes, the encoder, the skip with its gate, the decoder, the heads, the reasons.
FACTS, FACTS_WIDTH = 0, 166
BYPASS = 176  # of a UNETR++'s image past the level of full resolution
ENCODER, BLOCK_WIDTH = 190, 170
GATE, GATE_WIDTH = 379, 94
DECODER = 492
HEAD, HEAD_WIDTH = 680, 60
REASON, REASON_WIDTH = 764, 284
BOTTOM = (ENCODER + DECODER) / 2  # left side of the deepest level, between encoder and decoder
WITHOUT_REASONS = HEAD + HEAD_WIDTH + 1
ROW_GAP, MODULE_GAP, PADDING = 30, 5, 8
LINE = 16  # pixels from one line of text to the next
LETTER = {"name": 8.3, "value": 8.0, "fact": 7.3, "why": 7.0}  # pixels of a letter on average, in a wide font, by style

Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """One line; ``y`` is its baseline."""

    x: float
    y: float
    words: str
    style: str
    centred: bool = False


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    kind: str
    texts: tuple[Text, ...]

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def centre(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Arrow:
    """A line along ``points``, horizontal or vertical from one to the next, with its head at the last."""

    points: tuple[Point, ...]

    @property
    def head(self) -> tuple[Point, Point, Point]:
        (x0, y0), (x1, y1) = self.points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        side = (x1 - 6 * dx, y1 - 6 * dy)
        return (x1, y1), (side[0] + 4 * dy, side[1] + 4 * dx), (side[0] - 4 * dy, side[1] - 4 * dx)


@dataclass
class Drawing:
    width: float
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """The boxes of one level."""

    encoder: Box
    skip: Box  # the last one of the encoder: its blocks, or the squeeze-and-excitation below them
    decoder: Box | None


def draw_network(levels: Sequence[LevelWords], *, inputs: str, from_image: bool) -> Drawing:
    """
    Args:
        levels: full resolution first.
        inputs: what the network reads, such as "2 channels".
        from_image: level 1 reads the image, not level 0 (UNETR++).
    """
    reasons = any(level.decisions for level in levels)
    drawing = Drawing(REASON + REASON_WIDTH if reasons else WITHOUT_REASONS)
    image = _box(ENCODER, 1, BLOCK_WIDTH, [(f"input: {inputs}", "fact")], kind="image")
    drawing.boxes.append(image)
    top, rows = image.y + image.height + ROW_GAP, list[_Row]()
    for i, level in enumerate(levels):
        left = BOTTOM if 0 < i == len(levels) - 1 else ENCODER
        row, bottom = _draw_level(drawing, level, left, top)
        rows.append(row)
        top = bottom + ROW_GAP
    drawing.height = top - ROW_GAP + 1
    drawing.arrows += [Arrow(_down(image, rows[0].encoder)), *_between(rows, image if from_image else None)]
    return drawing


def _draw_level(drawing: Drawing, level: LevelWords, left: float, top: float) -> tuple[_Row, float]:
    """Add a level's boxes and texts, the skip and its head; its boxes and the lower end of all."""
    encoder = skip = _box(left, top, BLOCK_WIDTH, _lines_of(level.encoder), kind=level.encoder.kind)
    boxes = [encoder]
    if level.squeeze_excitation:
        lines = [("squeeze-and-excitation", "fact"), (level.squeeze_excitation, "fact")]
        skip = _box(left, encoder.y + encoder.height + MODULE_GAP, BLOCK_WIDTH, lines, kind="squeeze")
        boxes.append(skip)
    decoder = None
    if level.decoder:
        decoder = _box(
            DECODER, skip.middle, BLOCK_WIDTH, _lines_of(level.decoder), kind=level.decoder.kind, centred=True
        )
        boxes.append(decoder)
        gate = _box(GATE, skip.middle, GATE_WIDTH, [("gate", "name"), (level.gate, "fact")], kind="gate", centred=True)
        stops = [gate] if level.gate else []
        boxes += stops
        drawing.arrows += [_across(one, other) for one, other in pairwise([skip, *stops, decoder])]
    if level.head:
        last = decoder or skip
        boxes.append(_box(HEAD, last.middle, HEAD_WIDTH, [(level.head, "fact")], kind="head", centred=True))
        drawing.arrows.append(_across(last, boxes[-1]))
    drawing.boxes += boxes
    texts = [*_facts(level, top), *_reasons(level, top)]
    drawing.texts += texts
    bottoms = [*(box.y + box.height for box in boxes), *(text.y + 4 for text in texts)]
    return _Row(encoder, skip, decoder), max(bottoms)


def _box(
    x: float, y: float, width: float, lines: Sequence[tuple[str, str]], *, kind: str, centred: bool = False
) -> Box:
    """A box as high as its lines (words, style); ``y`` is its upper side, or its middle if ``centred``."""
    wrapped = [(part, style) for words, style in lines for part in _wrapped(words, width - PADDING, style)]
    height = LINE * len(wrapped) + PADDING + 4
    top = y - height / 2 if centred else y
    texts = [
        Text(x + width / 2, top + PADDING / 2 + LINE * (i + 1) - 2, words, style, centred=True)
        for i, (words, style) in enumerate(wrapped)
    ]
    return Box(x, top, width, height, kind, tuple(texts))


def _lines_of(blocks: Blocks) -> list[tuple[str, str]]:
    return [(blocks.name, "name"), (blocks.detail, "fact")]


def _wrapped(words: str, width: float, style: str) -> list[str]:
    return textwrap.wrap(words, int(width / LETTER[style]), break_on_hyphens=False)


def _facts(level: LevelWords, top: float) -> Iterator[Text]:
    """What the level's boxes have in common, at their left."""
    lines = [(f"stride {level.stride}", "name"), (level.size, "fact"), (level.voxel and f"of {level.voxel}", "fact")]
    lines.append((level.channels, "fact"))
    return _column(lines, FACTS, FACTS_WIDTH, top)


def _reasons(level: LevelWords, top: float) -> Iterator[Text]:
    """Every decision about the level's modules, at their right."""
    lines = []
    for decision in level.decisions:
        subject = decision.about.partition(" at ")[0]
        lines += [(f"{subject}: {decision.value}", "value"), (decision.why, "why")]
    return _column(lines, REASON, REASON_WIDTH, top)


def _column(lines: Sequence[tuple[str, str]], x: float, width: float, top: float) -> Iterator[Text]:
    wrapped = [(part, style) for words, style in lines for part in _wrapped(words, width, style)]
    for i, (words, style) in enumerate(wrapped):
        yield Text(x, top + LINE * (i + 1) - 3, words, style)


def _across(one: Box, other: Box) -> Arrow:
    return Arrow(((one.x + one.width, one.middle), (other.x, one.middle)))


def _down(one: Box, other: Box) -> tuple[Point, ...]:
    """From the lower side of one box to the upper side of another, or into the side of one further right."""
    start = (one.centre, one.y + one.height)
    if other.x <= one.centre <= other.x + other.width:
        return (start, (one.centre, other.y))
    return (start, (one.centre, other.middle), (other.x, other.middle))


def _between(rows: Sequence[_Row], image: Box | None) -> Iterator[Arrow]:
    """Down the encoder (to level 1 from ``image``, if given) and up the decoder."""
    for i, (upper, lower) in enumerate(pairwise(rows)):
        if i == 0 and image is not None:
            past = [(image.x, image.middle), (BYPASS, image.middle), (BYPASS, lower.encoder.middle)]
            yield Arrow((*past, (lower.encoder.x, lower.encoder.middle)))
        else:
            yield Arrow(_down(upper.skip, lower.encoder))
        if upper.decoder is not None:
            yield Arrow(_up(lower.decoder or lower.skip, upper.decoder))


def _up(one: Box, other: Box) -> tuple[Point, ...]:
    """From one box to the lower side of another: straight, or from the side of one further left."""
    end = (other.centre, other.y + other.height)
    if one.x <= other.centre <= one.x + one.width:
        return ((other.centre, one.y), end)
    return ((one.x + one.width, one.middle), (other.centre, one.middle), end)
