"""dataset.json, nnU-Net v2's description of a raw dataset: channels, labels, file ending; reading and writing it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from unetrpp.core.digest import digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.formats import FILE_ENDINGS

T = TypeVar("T")
JPEG = (".jpeg", ".jpg")
# Labels and predictions have the same ending, and JPEG would change their values.
DATASET_ENDINGS = tuple(ending for ending in FILE_ENDINGS if ending not in JPEG)
_SEPARATOR = re.compile(r"[/\\]")
_SHAPES = {
    "channel_names": 'an object such as {"0": "CT"}',
    "modality": 'an object such as {"0": "CT"}',
    "labels": 'an object such as {"background": 0, "tumour": 1}',
    "file_ending": 'a text such as ".nii.gz"',
}


class CaseFiles(msgspec.Struct, frozen=True):
    """The files of one case in dataset.json, relative to its folder or absolute; other keys are ignored."""

    images: tuple[str, ...]  # one per channel
    label: str


class DatasetDescription(Record, frozen=True, kw_only=True):
    """The content of dataset.json that we use; :func:`read_description` reads it and ignores other keys."""

    format: int = 1
    name: str
    channel_names: tuple[str, ...]
    labels: LabelScheme
    file_ending: str
    groups: dict[str, str] | None = None  # case -> patient
    files: dict[str, CaseFiles] | None = None  # nnU-Net's optional "dataset"
    reference: str | None = None
    licence: str | None = None

    def digest(self) -> str:
        """Hash of channels, labels and groups: with the files, all that fingerprint and verification depend on."""
        return digest((self.channel_names, self.labels, self.groups))


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
        "name": description.name,
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
    }
    return content | {key: value for key, value in optional.items() if value is not None}


def _region_value(scheme: LabelScheme, region: Region) -> int | list[int]:
    """A region is written as the list of its labels, or as the number of a label if it is that label alone and named like it."""
    values = [scheme.values[m] for m in region.members]
    return values[0] if [scheme.names[m] for m in region.members] == [region.name] else values


def read_description(path: Path, name: str) -> DatasetDescription:
    """Read a dataset.json, ours or nnU-Net's.

    ``name`` is the dataset's name where the file gives none.

    Raises:
        UserError: a required key is missing or malformed.
    """
    content = read_json(path, dict[str, Any], hint="write or correct it (docs/dataset_format.md shows one)")
    _refuse_older_form(path, content.get("labels"))

    def require(key: str, kind: type[T]) -> T:
        value = content.get(key)
        if not isinstance(value, kind):
            found = "is missing" if value is None else f"is {msgspec.json.encode(value).decode()[:60]}"
            raise UserError(f"{path}: {key!r} {found}, but must be {_SHAPES[key]}; correct the file")
        return value

    channels = require("channel_names", dict) if "channel_names" in content else require("modality", dict)
    if sorted(channels) != sorted(str(i) for i in range(len(channels))):
        raise UserError(
            f'{path}: the keys of \'channel_names\' must be "0", "1", ... without gaps, not {sorted(channels)}'
        )
    ending = require("file_ending", str)
    if ending not in DATASET_ENDINGS:
        jpeg = "; JPEG changes the values of labels, so convert with unetrpp_convert folder" if ending in JPEG else ""
        raise UserError(
            f"{path}: 'file_ending' {ending!r} is not one of {', '.join(DATASET_ENDINGS)} (lower case, with the dot){jpeg}"
        )
    return DatasetDescription(
        name=str(content.get("name") or name),
        channel_names=tuple(str(channels[str(i)]) for i in range(len(channels))),
        labels=read_labels(path, require("labels", dict), content.get("regions_class_order")),
        file_ending=ending,
        groups=_read_groups(path, content.get("groups")),
        files=_read_files(path, content.get("dataset")),
        reference=content.get("reference"),
        licence=content.get("licence") or content.get("license"),
    )


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
            "nnU-Net v1); convert the folder with unetrpp_convert msd"
        )


def _read_groups(path: Path, groups: Any) -> dict[str, str] | None:
    """Case -> patient; a patient may be a name or a number."""
    if groups is None:
        return None
    if not isinstance(groups, dict) or not all(isinstance(group, str | int) for group in groups.values()):
        raise UserError(
            f'{path}: \'groups\' must map every case to its patient, such as {{"case_1": "p1"}}; correct the file'
        )
    return {case: str(group) for case, group in groups.items()}


def _read_files(path: Path, files: Any) -> dict[str, CaseFiles] | None:
    if not files:
        return None
    try:
        read = msgspec.convert(files, dict[str, CaseFiles])
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: 'dataset': {error}; give every case a list of 'images' and a 'label'") from None
    for case in read:
        if _SEPARATOR.search(case):
            raise UserError(
                f"{path}: case {case!r} of 'dataset' has / or \\ in its name, which files cannot have; rename it"
            )
    return read


def read_labels(path: Path, labels: Mapping[str, Any], order: list[int] | None) -> LabelScheme:
    """The label scheme of nnU-Net's ``labels``: name -> value, or name -> list of values for a region.

    Args:
        path: the file they come from, for messages.
        order: ``regions_class_order``, the value written for each region; None without regions.

    Raises:
        UserError: no background, a value that is not a whole number >= 0, two labels of one value, or a wrong order.
    """
    for name, value in labels.items():
        values = _as_list(value)
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            quotes = " (without quotes)" if any(isinstance(v, str) for v in values) else ""
            raise UserError(
                f"{path}: label {name!r} is {value!r}, but must be a whole number >= 0 or a list of them{quotes}"
            )
    ignore = _ignore_value(path, labels)
    named = {name: value for name, value in labels.items() if name != "ignore"}
    plain = {value: name for name, value in named.items() if not isinstance(value, list)}
    if plain.get(0) is None:
        raise UserError(f"{path}: 'labels' has no background with value 0; add \"background\": 0")
    if len(plain) < sum(not isinstance(v, list) for v in named.values()):
        raise UserError(f"{path}: two labels share one value; give every label its own value")
    regions = {name: value for name, value in named.items() if isinstance(value, list)}
    if not regions:
        known = tuple(sorted(plain))
        return LabelScheme(names=tuple(plain[v] for v in known), values=known, ignore_value=ignore)
    return _region_scheme(
        path, {name: _as_list(v) for name, v in named.items() if v != 0}, plain, order=order, ignore=ignore
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _ignore_value(path: Path, labels: Mapping[str, Any]) -> int | None:
    """The value of nnU-Net's label ``ignore``, which no class or region may have."""
    ignore = labels.get("ignore")
    others = {v for name, value in labels.items() if name != "ignore" for v in _as_list(value)}
    if isinstance(ignore, list) or ignore in others:
        raise UserError(f"{path}: label 'ignore' is {ignore!r}, but must be one number that no other label has")
    return ignore


def _region_scheme(
    path: Path, regions: dict[str, list[int]], plain: dict[int, str], *, order: list[int] | None, ignore: int | None
) -> LabelScheme:
    """Regions (name -> values) over the labels with a name of their own, ``plain`` (value -> name)."""
    if order is None or len(order) != len(regions):
        raise UserError(f"{path}: {len(regions)} regions need 'regions_class_order' with as many values, found {order}")
    for i, ((name, members), value) in enumerate(zip(regions.items(), order, strict=True)):
        later = {v for others in list(regions.values())[i + 1 :] for v in others}
        if value not in members or value in later:
            raise UserError(
                f"{path}: 'regions_class_order' writes {value} for region {name!r} {members}; it must be one of its labels "
                "that no later region has"
            )
    values = (0, *sorted({v for members in regions.values() for v in members} - {0}))
    index = {value: i for i, value in enumerate(values)}
    return LabelScheme(
        names=tuple(plain.get(v, f"label {v}") for v in values),
        values=values,
        ignore_value=ignore,
        regions=tuple(
            Region(name=name, members=tuple(index[v] for v in members), value=value)
            for (name, members), value in zip(regions.items(), order, strict=True)
        ),
    )
