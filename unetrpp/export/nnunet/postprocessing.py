"""nnU-Net's post-processing as ours, from the JSON that it writes beside its pickle, which is never opened."""

import logging
import re
from typing import Any

import msgspec

from unetrpp.export.nnunet.source import Found
from unetrpp.inference.postprocessing import PostProcessing

LOG = logging.getLogger(__name__)
FUNCTION = "remove_all_but_largest_component_from_segmentation"


class ForeignPostProcessing(msgspec.Struct, frozen=True, kw_only=True):
    """postprocessing.json: functions by name, and the arguments of each."""

    postprocessing_fns: tuple[str, ...]
    postprocessing_kwargs: tuple[dict[str, Any], ...]


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """Of the one function that nnU-Net has: a label, or those that form one mask."""

    labels_or_regions: int | tuple[int | tuple[int, ...], ...]
    background_label: int = 0


def read_postprocessing(found: Found) -> PostProcessing | None:
    """What was chosen in the cross-validation of most folds; None where there is none, or it cannot be read.

    What cannot be taken over is logged, not refused: nnU-Net, too, predicts without it unless asked.
    """
    files = sorted(found.postprocessing, key=lambda file: (len(re.findall(r"\d+", file.parent.name)), file.name))
    if not files:
        return None
    texts = [file for file in files if file.suffix == ".json"]
    if not texts:
        LOG.warning(
            "warning: %s is a pickle without its JSON; its post-processing is left out", found.source.name(files[-1])
        )
        return None
    try:
        content = msgspec.json.decode(found.source.read(texts[-1]), type=ForeignPostProcessing)
        return _ours(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        where = found.source.name(texts[-1])
        LOG.warning("warning: %s cannot be taken over (%s); its post-processing is left out", where, error)
        return None


def _ours(content: ForeignPostProcessing) -> PostProcessing:
    """
    Raises:
        ValueError: another function than nnU-Net's own, or arguments that it does not have.
    """
    groups = []
    for name, given in zip(content.postprocessing_fns, content.postprocessing_kwargs, strict=True):
        if name != FUNCTION:
            raise ValueError(f"the function {name} is not {FUNCTION}")
        arguments = msgspec.convert(given, Arguments)
        if arguments.background_label != 0:
            raise ValueError(f"its background is {arguments.background_label}")
        labels = arguments.labels_or_regions
        each = (labels,) if isinstance(labels, int) else labels
        values = [value for part in each for value in ((part,) if isinstance(part, int) else part)]
        groups.append(tuple(sorted(set(values))))
    return PostProcessing(largest_component=tuple(groups))
