"""Which images and labels of BIDS belong together."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from unetrpp.core.text import escaped, listed
from unetrpp.dataset_conversion.bids.names import Name, Tree, Wanted, by_subject


class Found(NamedTuple):
    """The files of a case: the image of every channel and the label of every class."""

    id: str
    images: Sequence[Name]
    labels: Mapping[Wanted, Name]


def complete_cases(
    tree: Tree, channels: Sequence[Wanted], labels: Mapping[Wanted, Sequence[Name]]
) -> tuple[list[Found], dict[str, str]]:
    """The complete cases, and what the others lack: id -> reason and repair."""
    cases: list[Found] = []
    left_out: dict[str, str] = {}
    first, *others = channels
    images = tree.images(first)
    times = Counter(image.stem for image in images)
    channels_of = {wanted: by_subject(tree.images(wanted)) for wanted in others}
    labels_of = {wanted: by_subject(names) for wanted, names in labels.items()}
    for image in images:
        id, subject = image.stem.removesuffix(f"_{image.suffix}"), image.entities["sub"]
        names = [_in_session(image, of.get(subject, ()), wanted) for wanted, of in channels_of.items()]
        drawn = {w: _label_of(image, of.get(subject, ()), w, tree.suffixes) for w, of in labels_of.items()}
        faults = [found for found in (*names, *drawn.values()) if isinstance(found, str)]
        if times[image.stem] > 1:
            same = _both(other for other in images if other.stem == image.stem)
            faults = [f"is there {times[image.stem]} times ({same}); keep one"]
        if faults:
            left_out[id] = "; ".join(faults)
        else:
            whole = [image, *(name for name in names if isinstance(name, Name))]
            cases.append(Found(id, whole, {w: name for w, name in drawn.items() if isinstance(name, Name)}))
    shared = _with_shared_labels(cases, first)
    return [case for case in cases if case.id not in shared], left_out | shared


def _with_shared_labels(cases: Sequence[Found], first: Wanted) -> dict[str, str]:
    """Cases whose label could be that of another one, because it does not say of which run or acquisition it is."""
    users: dict[Name, list[str]] = {}
    for case in cases:
        for name in case.labels.values():
            users.setdefault(name, []).append(case.id)
    return {
        id: f"has the same label as {listed([escaped(other) for other in ids if other != id])} ({_both([name])}); choose the "
        f"image that it was drawn on, such as --suffix run-1_{first.suffix}"
        for name, ids in users.items()
        if len(ids) > 1
        for id in ids
    }


def _in_session(image: Name, candidates: Sequence[Name], wanted: Wanted) -> Name | str:
    """The image of another channel, or why there is none: the only one of the session, or the one of equal entities."""
    session = [n for n in candidates if all(n.entities.get(k) == image.entities.get(k) for k in ("sub", "ses"))]
    alike = [name for name in session if all(image.source.get(k, v) == v for k, v in name.source.items())]
    for found in (session, alike):
        if len(found) == 1:
            return found[0]
    if not session:
        return f"has no {wanted.name}; complete the download, or leave this channel out"
    return f"has several {wanted.name} ({_both(session)}); choose by entities, such as --suffix acq-..._{wanted.suffix}"


def _label_of(image: Name, candidates: Sequence[Name], wanted: Wanted, suffixes: Collection[str]) -> Name | str:
    """The label of an image, or why there is none. One that has the wanted parts alone counts before one with more."""
    found = [name for name in candidates if name.belongs_to(image, suffixes)]
    exact = [name for name in found if set(name.kind(suffixes)) <= wanted.parts]
    for names in (exact, found):
        if len(names) == 1:
            return names[0]
    if not found:
        return f"has no label {'_'.join(sorted(wanted.parts))}; draw one, or remove the image"
    return f"has several labels ({_both(exact or found)}); choose with --labels or --derivatives"


def _both(names: Iterable[Name]) -> str:
    """Files from the folder of their subject on, or from higher up where they would look the same."""
    paths = [name.path.parts for name in names]
    short = next((n for n in range(3, 10) if len({parts[-n:] for parts in paths}) == len(paths)), 10)
    return listed([escaped("/".join(parts[-short:])) for parts in paths], 2)


def labels_without_image(tree: Tree, first: Wanted, labels: Mapping[Wanted, Sequence[Name]]) -> dict[str, str]:
    """Labels of no image, except those that were drawn on images of another suffix."""
    images = by_subject(tree.images(first))
    lost = {
        name.stem
        for names in labels.values()
        for name in names
        if not {*name.words} & tree.suffixes - {first.suffix}
        and not any(name.belongs_to(image, tree.suffixes) for image in images.get(name.entities["sub"], ()))
    }
    return dict.fromkeys(sorted(lost), f"is a label, but its {first.suffix} image is not there; complete the download")
