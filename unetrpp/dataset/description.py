"""dataset.json, nnU-Net v2's description of a raw dataset: channels, labels, file ending; reading and writing it."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError, refuse
from unetrpp.core.files import Record, read_edited_json
from unetrpp.dataset.label_definitions import read_labels, whole_number
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.formats import FILE_ENDINGS, ONLY_READ

JPEG = (".jpeg", ".jpg")
DATASET_ENDINGS = tuple(ending for ending in FILE_ENDINGS if ending not in ONLY_READ)  # also of labels and predictions
MOST_SHOWN = 60  # characters of a wrong value, in a message
_SHAPES: dict[str, tuple[type, str]] = {
    "channel_names": (dict, 'an object such as {"0": "CT"}'),
    "modality": (dict, 'an object such as {"0": "CT"}'),
    "labels": (dict, 'an object such as {"background": 0, "tumour": 1}'),
    "file_ending": (str, 'a text such as ".nii.gz"'),
}


class CaseFiles(msgspec.Struct, frozen=True):
    """The files of one case in dataset.json, relative to its folder or absolute; other keys are ignored."""

    images: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]  # one per channel, or one that holds all
    label: str


class DatasetDescription(Record, frozen=True, kw_only=True):
    """The content of dataset.json that we use; :func:`read_description` reads it and ignores other keys.

    ``name`` is that of the dataset's folder, by which it is found; ``title`` is the text that the file has as its name.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"check_modality"})
    format: int = 1
    name: str
    title: str | None = None
    channel_names: tuple[str, ...]
    labels: LabelScheme
    file_ending: str
    groups: dict[str, str] | None = None  # case -> patient
    files: dict[str, CaseFiles] | None = None  # nnU-Net's optional "dataset"
    reference: str | None = None
    licence: str | None = None
    declared_cases: int | None = None  # numTraining
    check_modality: bool = True  # False: the values are right whatever dataset/modality.py makes of them

    def digest(self) -> str:
        """Hash of channels, labels and groups: with the files, all that fingerprint and verification depend on."""
        unchecked = () if self.check_modality else ("check_modality is false",)  # release 0.1.0 checked always
        return digest((self.channel_names, self.labels, self.groups, *unchecked))


def nnunet_json(description: DatasetDescription, cases: int) -> dict[str, Any]:
    """dataset.json in nnU-Net v2's form, with our format number and groups added.

    ``cases`` is the number of training cases."""
    scheme = description.labels
    labels: dict[str, Any] = dict(zip(scheme.names, scheme.values, strict=True))
    order = None
    if scheme.regions:
        named = {name: value for name, value in labels.items() if value == 0}
        labels = named | {region.name: _region_value(scheme, region) for region in scheme.regions}
        order = [r.value for r in scheme.regions]
    if scheme.ignore_value is not None:
        labels["ignore"] = scheme.ignore_value
    content: dict[str, Any] = {
        "format": description.format,
        "name": description.title or description.name,
        "channel_names": {str(i): name for i, name in enumerate(description.channel_names)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": description.file_ending,
    }
    optional = {
        "regions_class_order": order,
        "groups": description.groups,
        "dataset": description.files,
        "reference": description.reference,
        "licence": description.licence,
        "check_modality": None if description.check_modality else False,
    }
    return content | {key: value for key, value in optional.items() if value is not None}


def _region_value(scheme: LabelScheme, region: Region) -> int | list[int]:
    """A region is written as the list of its labels, or as the number of a label if it is that label alone and named like it."""
    values = [scheme.values[m] for m in region.members]
    return values[0] if [scheme.names[m] for m in region.members] == [region.name] else values


def read_description(path: Path, name: str) -> DatasetDescription:
    """Read a dataset.json, ours or nnU-Net's.

    Args:
        name: the dataset's name, which is its folder's; the name in the file is only a title.

    Raises:
        UserError: a key is repeated, missing or malformed; the message names all of them.
    """
    content = read_edited_json(path, dict[str, Any], hint="write or correct it (docs/dataset_format.md shows one)")
    _refuse_older_form(path, content.get("labels"))
    refuse([*_problems(content)], path)
    channels, groups = content[_channel_key(content)], content.get("groups")
    title = _text(content.get("name"))
    return DatasetDescription(
        name=name,
        title=None if title in ("", name) else title,
        channel_names=tuple(channels[str(i)] for i in range(len(channels))),
        labels=read_labels(path, content["labels"], content.get("regions_class_order")),
        file_ending=content["file_ending"],
        groups=None if groups is None else {case: str(_group(group)) for case, group in groups.items()},
        files=msgspec.convert(content.get("dataset") or None, dict[str, CaseFiles] | None),
        reference=_text(content.get("reference")),
        licence=_text(content.get("licence") or content.get("license")),
        declared_cases=whole_number(content.get("numTraining")),
        check_modality=content.get("check_modality", True),
    )


def _channel_key(content: Mapping[str, Any]) -> str:
    """nnU-Net v1 and the decathlon call the channels 'modality'."""
    return "modality" if "modality" in content and "channel_names" not in content else "channel_names"


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    """What is missing or malformed, except inside 'labels', which :func:`read_labels` checks."""
    checks: dict[str, Callable[[Any], Iterator[str]]] = {
        _channel_key(content): _channel_problems,
        "labels": _label_problems,
        "file_ending": _ending_problems,
    }
    for key, check in checks.items():
        (kind, example), value = _SHAPES[key], content.get(key)
        if isinstance(value, kind):
            yield from check(value)
        else:
            found = "is missing" if value is None else f"is {_shown(value)}"
            yield f"{key!r} {found}, but must be {example}; correct the file"
    if not isinstance(switch := content.get("check_modality", True), bool):
        yield f"'check_modality' is {_shown(switch)}, but must be true or false; correct the file"
    yield from _group_problems(content.get("groups"))
    yield from _file_problems(content.get("dataset"))
    cases = content.get("numTraining")
    if cases is not None and (whole_number(cases) or 0) < 1:
        yield f"'numTraining' is {_shown(cases)}, but must be the number of training cases; correct or remove it"


def _channel_problems(channels: Mapping[str, Any]) -> Iterator[str]:
    if not channels:
        yield '\'channel_names\' names no channel; add one, such as "0": "CT"'
    if sorted(channels) != sorted(str(i) for i in range(len(channels))):
        yield f'the keys of \'channel_names\' must be "0", "1", ... without gaps, but are {sorted(channels)}'
    for number, name in channels.items():
        if not isinstance(name, str):
            yield f'channel {number!r} is {_shown(name)}, but must be a text such as "CT"; correct the file'


def _label_problems(labels: Mapping[str, Any]) -> Iterator[str]:
    if not labels:
        yield f"'labels' is empty, but must be {_SHAPES['labels'][1]}; correct the file"


def _ending_problems(ending: str) -> Iterator[str]:
    if ending not in DATASET_ENDINGS:
        jpeg = "; JPEG changes the values of labels, so convert with unetrpp_convert folder" if ending in JPEG else ""
        known = f"{', '.join(DATASET_ENDINGS)} (lower case, with the dot)"
        yield f"'file_ending' {ending!r} is not one of {known}{jpeg}"


def _group_problems(groups: Any) -> Iterator[str]:
    """A patient may be a name or a number."""
    rule = '\'groups\' must map every case to its patient, such as {"case_1": "p1"}'
    if groups is not None and not isinstance(groups, dict):
        yield f"{rule}, but is {_shown(groups)}; correct the file"
        return
    wrong = [(case, group) for case, group in (groups or {}).items() if _group(group) is None]
    for case, group in wrong[:1]:
        yield f"{rule}, but maps {case!r} to {_shown(group)}; correct the file"


def _group(value: Any) -> str | int | None:
    """The name of a group; None where ``value`` is neither a text nor a whole number."""
    return value.strip() if isinstance(value, str) else whole_number(value)


def _file_problems(files: Any) -> Iterator[str]:
    """The optional 'dataset', case -> files."""
    try:
        read = msgspec.convert(files or {}, dict[str, CaseFiles])
    except msgspec.ValidationError as error:
        yield f"'dataset': {error}; give every case a list of 'images', at least one, and a 'label'"
        return
    for case in read:
        if not case or case.startswith(".") or set(case) & set("/\\\0"):
            yield (
                f"case {case!r} of 'dataset' is empty, starts with a dot, or has / or \\ in its name, which a file name "
                "cannot have; rename it"
            )


def _text(value: Any) -> str | None:
    """A text of the file that is only shown; something else as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _shown(value: Any) -> str:
    return json.dumps(value)[:MOST_SHOWN]


def _refuse_older_form(path: Path, labels: Any) -> None:
    """
    Raises:
        UserError: ``labels`` maps values to names, as in the decathlon and nnU-Net v1.
    """
    if not isinstance(labels, dict) or not labels:
        return
    if all(value.isdecimal() and isinstance(name, str) for value, name in labels.items()):
        raise UserError(
            f"{path}: 'labels' must map names to values, but maps values to names (the form of the decathlon and "
            "nnU-Net v1); convert the folder with unetrpp_convert nnunet where images are named CASE_0000, else with unetrpp_convert msd"
        )
