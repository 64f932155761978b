"""Segmentations of 3D Slicer for tests, written byte by byte."""

import numpy as np

SEGMENTS = [("a", 0, 1), ("b", 0, 2), ("c", 1, 1)]  # name, layer, value


def write_segments(path, layers, *, fields=None, segments=SEGMENTS, origin=(0, 0, 0), **about):
    """A segmentation (layers, Z, Y, X) as Slicer writes it; ``fields`` are those that each segment has."""
    fields = fields or ("ID", "Name", "LabelValue", "Layer")
    values = [
        {"ID": f"Segment_{i}", "Name": name, "LabelValue": value, "Layer": layer}
        for i, (name, layer, value) in enumerate(segments)
    ]
    lines = [f"Segment{i}_{key}:={of[key]}" for i, of in enumerate(values) for key in fields]
    lines += [f"Segmentation_{key}:={value}" for key, value in about.items()]
    is_list = len(layers) > 1 or "Layer" not in fields
    sizes = (*([len(layers)] if is_list else []), *layers.shape[:0:-1])
    header = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' * is_list}(1,0,0) (0,1,0) (0,0,2)",
        f"kinds: {'list ' * is_list}domain domain domain",
        "encoding: raw",
        f"space origin: ({','.join(map(str, origin))})",
        *lines,
    ]
    voxels = np.moveaxis(layers, 0, -1) if is_list else layers[0]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + voxels.astype(np.uint8).tobytes())
    return path
