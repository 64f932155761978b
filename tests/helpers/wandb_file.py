"""Reads what Weights & Biases wrote offline: a .wandb file is a LevelDB log of protobuf records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
FILE_HEADER, HEADER = 7, 7  # bytes
WHOLE, FIRST, LAST = 1, 2, 4


def payloads(path: Path) -> Iterator[bytes]:
    data, at, parts = path.read_bytes(), FILE_HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # padding at the end of a block
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece = data[at + HEADER : at + HEADER + size]
        parts = piece if kind in (WHOLE, FIRST) else parts + piece
        at += HEADER + size
        if kind in (WHOLE, LAST):
            yield parts


class OfflineRun:
    """One run, of all folders that its processes left: id, names, config, the rows of its history, and its summary."""

    def __init__(self, folder: Path):
        from wandb.proto.wandb_internal_pb2 import Record

        self.ids: set[str] = set()
        self.names: set[str] = set()
        self.groups: set[str] = set()
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.folders = sorted(folder.glob("offline-run-*"))
        for path in sorted(folder.glob("offline-run-*/*.wandb")):
            for payload in payloads(path):
                self._take(Record.FromString(payload))

    def _take(self, record) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.ids.add(record.run.run_id)
            self.names.add(record.run.display_name)
            self.groups.add(record.run.run_group)
            self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            self.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            self.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}

    def curve(self, name: str) -> dict[int, float]:
        return {row["epoch"]: row[name] for row in self.history if name in row}


def _key(item) -> str:
    return item.key or ".".join(item.nested_key)
