"""Write docs/json.schema.json, the JSON Schema of what every command prints with --json, from the types of the results.

Run it as `python .ci/json_schema.py`; a test compares the file with the code.
"""

import importlib
import runpy
from pathlib import Path

import msgspec

from unetrpp.core.files import to_json
from unetrpp.core.reply import FORMAT

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "json.schema.json"
SITE = runpy.run_path(str(ROOT / ".ci" / "site.py"))
REFERENCE = "#/$defs/{name}"


class Overview(msgspec.Struct):
    """Of `unetrpp --json` without a command."""

    commands: dict[str, str]  # name -> purpose
    workspace: str
    next: list[str]


def result_types() -> dict[str, dict[str, object]]:
    """By command, and then by kind of call where there are several: the type of the result."""
    found = {command: importlib.import_module(module).result_types() for command, module in SITE["commands"]().items()}
    return {"unetrpp": {"": Overview}, **found}


def schema() -> dict[str, object]:
    """The schema of the object that is printed."""
    types = {command: list(kinds.values()) for command, kinds in result_types().items()}
    every = [kind for kinds in types.values() for kind in kinds]
    schemas, components = msgspec.json.schema_components(every, schema_hook=_as_text, ref_template=REFERENCE)
    of = iter(schemas)
    branches = [_branch(command, [next(of) for _ in kinds]) for command, kinds in types.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What a command of unetrpp prints with --json",
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "command": {"type": "string"},
            "version": {"type": "string"},
            "exit_code": {"type": "integer"},
            "error": {"type": ["string", "null"]},
            "result": {},
        },
        "required": ["format", "command", "version", "exit_code", "error", "result"],
        "additionalProperties": False,
        "allOf": branches,
        "$defs": dict(sorted(components.items())),
    }


def _branch(command: str, results: list[dict[str, object]]) -> dict[str, object]:
    """What ``result`` is where the object is of this command; null where it did not come so far."""
    return {
        "if": {"properties": {"command": {"pattern": f"^{command}( |$)"}}},
        "then": {"properties": {"result": {"anyOf": [{"type": "null"}, *results]}}},
    }


def _as_text(kind: type) -> dict[str, object]:
    if issubclass(kind, Path):
        return {"type": "string"}
    raise NotImplementedError(kind)


if __name__ == "__main__":
    FILE.write_bytes(to_json(schema()))
