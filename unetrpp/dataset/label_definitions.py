"""The labels and regions that dataset.json defines: 'labels' and 'regions_class_order', checked.

A prediction holds one value per voxel, written by the last of the regions that won there. Hence the rules for the order: a
region's own value must not be lost under the regions that come after it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetrpp.core.errors import refuse
from unetrpp.dataset.labels import LabelScheme, Region

IGNORE = "ignore"


def read_labels(path: Path, labels: Mapping[str, object], order: object) -> LabelScheme:
    """The label scheme of nnU-Net's ``labels``: name -> value, or name -> list of values for a region.

    Lists of one label each are labels, as in nnU-Net, unless there is an order. Numbers such as 1.0 count as whole.

    Args:
        path: the file they come from, for messages.
        order: ``regions_class_order``, the value written for each region; not used without regions.

    Raises:
        UserError: no background, a value that is not a whole number >= 0, two labels of one value, or a wrong order.
    """
    refuse([_wrong_value(name, value) for name, value in labels.items() if not _numbers(value)], path)
    values = {name: _numbers(value) for name, value in labels.items()}
    ignore = _ignore_value(path, labels, values)
    named = {name: those for name, those in values.items() if name != IGNORE}
    lists = {name for name, value in labels.items() if isinstance(value, list) and values[name] != [0]} - {IGNORE}
    regions = any(len(those) > 1 for those in named.values()) or (bool(lists) and order is not None)
    alone = {name: those[0] for name, those in named.items() if not (regions and name in lists)}
    plain = {value: name for name, value in alone.items()}
    problems = [] if 0 in plain else ["'labels' has no background with value 0; add \"background\": 0"]
    if len(plain) < len(alone):
        problems.append("two labels share one value; give every label its own value")
    refuse(problems, path)
    if not regions:
        known = tuple(sorted(plain))
        return LabelScheme(names=tuple(plain[v] for v in known), values=known, ignore_value=ignore)
    members = {name: those for name, those in named.items() if those != [0]}
    return _region_scheme(members, plain, _read_order(path, members, order), ignore)


def whole_number(value: object) -> int | None:
    """A whole number of a JSON file; 1.0, as MATLAB and R write it, is one, and true is not.

    >>> whole_number(1.0), whole_number(1.5), whole_number(True), whole_number("1")
    (1, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) != float("inf") and value == int(value) else None


def _numbers(value: object) -> list[int]:
    """The labels that ``value`` names; none where one of them is not a whole number >= 0."""
    found = [whole_number(v) for v in (value if isinstance(value, list) else [value])]
    numbers = [v for v in found if v is not None and v >= 0]
    return numbers if len(numbers) == len(found) else []


def _wrong_value(name: str, value: object) -> str:
    texts = any(isinstance(v, str) for v in (value if isinstance(value, list) else [value]))
    quotes = " (without quotes)" if texts else ""
    return f"label {name!r} is {json.dumps(value)}, but must be a whole number >= 0 or a list of them{quotes}"


def _ignore_value(path: Path, labels: Mapping[str, object], values: Mapping[str, list[int]]) -> int | None:
    """The value of nnU-Net's label ``ignore``, which no class or region may have."""
    if IGNORE not in labels:
        return None
    ignore = values[IGNORE][0]
    others = {v for name, those in values.items() if name != IGNORE for v in those}
    if isinstance(labels[IGNORE], list) or ignore in others:
        refuse([f"label 'ignore' is {labels[IGNORE]!r}, but must be one number that no other label has"], path)
    return ignore


def _region_scheme(
    regions: Mapping[str, list[int]], plain: Mapping[int, str], order: Sequence[int], ignore: int | None
) -> LabelScheme:
    """Regions (name -> values) over the labels, of which ``plain`` (value -> name) have a name of their own."""
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


def _read_order(path: Path, regions: Mapping[str, list[int]], order: object) -> list[int]:
    """``regions_class_order``, one value per region, checked by :func:`_order_problems`."""
    needed = f"a list of whole numbers, the value to write for each region ({', '.join(map(repr, regions))})"
    found = [whole_number(v) for v in order] if isinstance(order, list) else []
    values = [v for v in found if v is not None]
    if order is None:
        refuse([f"'regions_class_order' is missing; add {needed}"], path)
    if len(values) != len(regions) or len(values) != len(found):
        quotes = ", without quotes" if isinstance(order, list) and any(isinstance(v, str) for v in order) else ""
        refuse([f"'regions_class_order' is {json.dumps(order)[:80]}, but must be {needed}{quotes}"], path)
    refuse(_order_problems(regions, values), path)
    return values


def _order_problems(regions: Mapping[str, list[int]], order: Sequence[int]) -> list[str]:
    """Regions whose value is not one of their labels, or lies in a later region, so that predictions lose something.

    A value may lie in later regions where these hold all labels of the region, as parts do that fill it: predictions then
    have the values of the parts.
    """
    problems, sets = [], {name: set(members) for name, members in regions.items()}
    written = {
        v: value for members, value in zip(sets.values(), order, strict=True) for v in members
    }  # the last one counts
    for i, (name, value) in enumerate(zip(regions, order, strict=True)):
        members, later = sets[name], list(sets)[i + 1 :]
        own = sorted(members - set[int]().union(*(sets[other] for other in later)))
        changed = any((v in members) != (written[v] in members) for v in written)
        overwriting = ", ".join(f"{other!r} {regions[other]}" for other in later if value in sets[other])
        what = f"'regions_class_order' writes {value} for region {name!r} {regions[name]}"
        if twin := next((other for other in later if sets[other] == members), None):
            problems.append(f"regions {name!r} and {twin!r} have the same labels {regions[name]}; remove one of them")
        elif value not in members:
            problems.append(
                f"{what}, which is not one of the region's labels; write one of its labels that no later region has"
            )
        elif overwriting and (own or changed):
            repair = f"write {own[0]}" if own else f"put {name!r} after it, in 'labels' and in 'regions_class_order'"
            problems.append(f"{what}, which the later {overwriting} overwrites; {repair}")
    return problems


def region_overlaps(scheme: LabelScheme) -> list[str]:
    """Pairs of regions that predictions could not show together, although a label lies in both.

    Where all regions of a label win, the last of them writes its value. If that value lies in other regions than the label
    does, predictions lose a region, or gain one. It happens where two regions overlap and neither contains the other.
    """
    problems: dict[str, None] = {}
    owners = [[r for r in scheme.regions if k in r.members] for k in range(len(scheme.values))]
    for own in filter(None, owners[1:]):
        last = own[-1]
        for other in _differing(own, owners[scheme.values.index(last.value)]):
            both, shared = (other, last), sorted(scheme.values[k] for k in set(other.members) & set(last.members))
            named = " and ".join(f"{r.name!r} {[scheme.values[k] for k in r.members]}" for r in both)
            problems[
                f"regions {named} overlap and neither contains the other, so one value per voxel cannot show both; at the end "
                f"of 'labels', add a region of the shared {shared}, and give each region a value that no later one has"
            ] = None
    return list(problems)


def _differing(some: Sequence[Region], others: Sequence[Region]) -> list[Region]:
    return [r for r in (*some, *others) if (r in some) != (r in others)]


def filled_regions(scheme: LabelScheme) -> list[str]:
    """What predictions show where a region wins alone that later regions fill."""
    notes = []
    for i, region in enumerate(scheme.regions):
        part = next((r for r in scheme.regions[i + 1 :] if scheme.values.index(region.value) in r.members), None)
        if part is not None:
            notes.append(
                f"later regions fill region {region.name!r}; where only {region.name!r} is predicted, the value is {region.value}, "
                f"which belongs to {part.name!r} as well"
            )
    return notes
