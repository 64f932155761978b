"""What dataset.json declares, compared with the files in its folder: the number of cases, groups, and values of labels."""

from collections.abc import Iterator

from unetrpp.core.text import counted_of, listed
from unetrpp.dataset.case_names import named_unknown
from unetrpp.dataset.cases import RawDataset, image_ids
from unetrpp.dataset.label_definitions import filled_regions, region_overlaps
from unetrpp.dataset.verification import DATASET, Problem

LARGEST_VALUES = {".png": 2**16 - 1, ".bmp": 2**8 - 1}  # that a file of this ending can hold
LARGEST_VALUE = 2**32 - 1  # in all others


def declaration_problems(dataset: RawDataset) -> list[Problem]:
    """Errors and warnings about dataset.json that need no image."""
    description = dataset.description
    overlaps, notes = region_overlaps(description.labels), filled_regions(description.labels)
    errors = [*_value_errors(dataset), *overlaps, *_group_errors(dataset)]
    warnings = [*_count_warnings(dataset), *notes, *_group_warnings(dataset)]
    found = [(message, True) for message in errors] + [(message, False) for message in warnings]
    return [Problem(case=DATASET, message=message, fatal=fatal) for message, fatal in found]


def _count_warnings(dataset: RawDataset) -> Iterator[str]:
    """A warning only, because the number is often not corrected after a case was added or taken out on purpose."""
    declared, found = dataset.description.declared_cases, len(dataset.cases)
    if declared is not None and declared != found:
        repair = "restore the missing ones, or correct the number" if found < declared else "correct the number"
        yield f"'numTraining' in dataset.json is {declared}, but the folder has {found} training cases; {repair}"


def _value_errors(dataset: RawDataset) -> Iterator[str]:
    """Labels that a prediction could not be written with, and regions that hold the background."""
    description = dataset.description
    largest = LARGEST_VALUES.get(description.file_ending, LARGEST_VALUE)
    for name, value in zip(description.labels.names, description.labels.values, strict=True):
        if value > largest:
            ending = f"the largest that a {description.file_ending} file can hold"
            yield f"label {name!r} is {value}, but {largest} is {ending}; remap the labels"
    if len(description.labels.values) == 1:
        yield "'labels' names nothing but the background; add what is to be segmented"
    for region in description.labels.regions:
        if 0 in region.members:
            yield f"region {region.name!r} holds 0, the background, which no region can contain; remove it from the region"


def _group_errors(dataset: RawDataset) -> Iterator[str]:
    """Keys that name neither a training nor a test case, whose cases would be alone, and empty names, which would put
    strangers together."""
    groups = dataset.description.groups or {}
    unnamed = sorted(case for case, group in groups.items() if not group)
    if unnamed:
        yield f"the groups of {listed(unnamed)} are empty; name the patient, or remove the case from the groups"
    cases = {case.id for case in dataset.cases}
    unknown = sorted(set(groups) - cases)
    if unknown:
        unknown = sorted(set(unknown) - set(image_ids(dataset.folder / "imagesTs", dataset.description)))
    if unknown:
        count = "a name that is not a case" if len(unknown) == 1 else f"{len(unknown)} names that are not cases"
        yield f"the groups have {count} of the dataset: {named_unknown(unknown, cases)}; name the cases as in labelsTr, without ending"


def _group_warnings(dataset: RawDataset) -> Iterator[str]:
    groups = dataset.description.groups
    alone = [case.id for case in dataset.cases if groups and case.id not in groups]
    if alone:
        found = counted_of(len(alone), len(dataset.cases), "case", "has/have")
        yield f"{found} no group, so each counts as a patient of its own: {listed(alone)}"
