"""The classes of a folder: named by the user, listed in a file, or all values that the label files hold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import run_cases
from unetrpp.dataset.label_files import LabelFile, Labels, read_label_file
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.own_folder.pairing import Found
from unetrpp.io.images import most_voxels, read_label
from unetrpp.io.label_names import label_names

COLOUR = re.compile("#[0-9a-fA-F]{6}")
NO_CLASSES = {"background", "ignore"}
BYTES_A_VOXEL = 24  # peak memory while a label is read


@dataclass(frozen=True)
class ClassOptions:
    """Which classes there are; see :func:`unetrpp.dataset_conversion.folder.convert_folder` for each option."""

    label: Mapping[str, int | str] | None = None
    label_file: Path | None = None
    labels_from_files: bool = False
    foreground_from_instances: bool = False

    def require_sound(self, masks: bool) -> None:
        """
        Raises:
            UserError: no option says what the classes are, or two contradict each other.
        """
        given = {
            "--label": self.label is not None,
            "--label-file": self.label_file is not None,
            "--labels-from-files": self.labels_from_files,
            "--foreground-from-instances": self.foreground_from_instances,
        }
        if masks and any(given.values()):
            name = next(name for name, is_given in given.items() if is_given)
            raise UserError(f"--masks names the classes itself; leave {name} out")
        if not masks and not any(list(given.values())[:3]):
            raise UserError(
                "which classes do the label files hold? give --label NAME=VALUE ..., a --label-file that lists them, or "
                "--labels-from-files to take all values"
            )
        if self.colours() and self.foreground_from_instances:
            raise UserError("--foreground-from-instances is for files that number objects; leave it out with colours")
        for one, other in (
            ("--label", "--label-file"),
            ("--label", "--labels-from-files"),
            ("--labels-from-files", "--foreground-from-instances"),
        ):
            if given[one] and given[other]:
                raise UserError(f"{one} and {other} contradict each other; give one of them")

    def colours(self) -> dict[str, int]:
        """Class -> its colour as 0xRRGGBB, where ``label`` has colours in place of values.

        Raises:
            UserError: it has both, or one colour twice, or something that is no colour.
        """
        given = {name: value for name, value in (self.label or {}).items() if isinstance(value, str)}
        if wrong := [f"{name}={value}" for name, value in given.items() if not COLOUR.fullmatch(value)]:
            raise UserError(f"{wrong[0]!r} is no colour; write it as #RRGGBB, such as tumour=#ff0000")
        if given and len(given) < len(self.label or {}):
            raise UserError("--label has both values and colours, but label files hold one of the two; give only those")
        colours = {name: int(value[1:], 16) for name, value in given.items()}
        if len(set(colours.values())) < len(colours):
            raise UserError("--label gives two classes one colour; give each its own")
        return colours

    def values(self) -> dict[str, int]:
        """Class -> value of ``label``; classes with colours get 1, 2, ... in their order."""
        if self.colours():
            named = [name for name in self.label or {} if name != "background"]
            return {name: value for value, name in enumerate(named, 1)}
        return {name: int(value) for name, value in (self.label or {}).items()}


def choose_classes(options: ClassOptions, found: Found, processes: int | None) -> LabelFile:
    """The classes (without background) and, of regions, the values that predictions show.

    Raises:
        UserError: a file of classes cannot be read, values that have no name in it or several in the label files, or more
            than one class where instances become one.
    """
    if found.classes:
        chosen = LabelFile({name: value for value, name in enumerate(found.classes, 1)})
    elif options.labels_from_files:
        chosen = _found_classes(options.label_file, found, processes)
    elif options.label_file is not None:
        chosen = read_label_file(options.label_file)
    else:
        chosen = LabelFile(options.values())
    classes = chosen.labels.keys() - NO_CLASSES
    if options.foreground_from_instances and len(classes) != 1:
        raise UserError(f"--foreground-from-instances makes one class, but {len(classes)} are named; name only one")
    return chosen


def _found_classes(label_file: Path | None, found: Found, processes: int | None) -> LabelFile:
    """All values above 0 in the label files, named by ``label_file``, else by the files themselves, else ``label_N``.

    Raises:
        UserError: a value without a name in ``label_file``, two names of one value, one name of two, or no value.
    """
    listed = None if label_file is None else read_label_file(label_file)
    if listed is not None and listed.order is not None:
        raise UserError(f"{label_file} has regions, which are not found in files; leave --labels-from-files out")
    names: dict[int, dict[str, str]] = {}  # value -> name -> a case that has it
    for case, (values, of_file) in _scanned(found, processes).items():
        for value in values:
            names.setdefault(value, {})
            if value in of_file:
                names[value].setdefault(of_file[value], case)
    if not names:
        raise UserError("the label files hold no value above 0, so there is no class; check them")
    if listed is not None:
        return LabelFile(_named_by(label_file, listed.labels, sorted(names)))
    return LabelFile(_named_by_files(names))


def _named_by(path: Path | None, labels: Labels, values: Sequence[int]) -> dict[str, int]:
    known = {value: name for name, value in labels.items() if isinstance(value, int)}
    if unknown := [value for value in values if value not in known]:
        raise UserError(f"{path} has no name for {listed_values(unknown)}, which the label files hold; add it")
    return {known[value]: value for value in values}


def _named_by_files(names: Mapping[int, Mapping[str, str]]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    for value, given in sorted(names.items()):
        if len(given) > 1:
            (one, case), (other, second) = list(given.items())[:2]
            raise UserError(
                f"the value {value} is {one!r} in {case} and {other!r} in {second}; give both the same values, or name the "
                "classes with --label"
            )
        name = next(iter(given), f"label_{value}")
        if name in chosen:
            raise UserError(f"the values {chosen[name]} and {value} are both {name!r}; name the classes with --label")
        chosen[name] = value
    return chosen


def _scanned(found: Found, processes: int | None) -> dict[str, tuple[list[int], dict[int, str]]]:
    """Case -> the values above 0 in its label file and the names that it gives; what cannot be read is reported later."""
    files = {case.id: case.label for case in found.cases if isinstance(case.label, Path)}
    jobs = {case: (file,) for case, file in sorted(files.items())}
    processes = processes or default_processes(most_voxels(files.values()) * BYTES_A_VOXEL)
    outcomes = {o.case: o.value for o in run_cases(scan_label, jobs, "reading labels", processes)}
    return {case: value for case in jobs if (value := outcomes[case]) is not None}


def scan_label(file: Path) -> tuple[list[int], dict[int, str]]:
    """The values above 0 in a label file and the names that it gives. Runs in a worker."""
    values = present_values(read_label(file).array)
    return [value for value in values if value > 0], label_names(file)
