"""The structure of the code in numbers: modules in the root, package cycles, long parameter lists, untyped public names.

Run it as `python .ci/structure.py`; it exits with 1 where one of them is not what docs/development.md states.
"""

import ast
import inspect
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grimp
from mypy import api

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("unetrpp", "dataset_conversion", "planners", "trainers")
MOST_POSITIONAL = 4
# Their parameters are positional because torch.library calls them so.
OPERATOR_DECORATORS = ("custom_op", "register_fake", "register_autograd")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[Path]:
    """Every module of the package; the three links inside unetrpp/ are not followed."""
    for folder in FOLDERS:
        yield from sorted(path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())


def root_modules() -> list[str]:
    return sorted({path.name for path in (ROOT / "unetrpp").glob("*.py")} - {"__init__.py", "__main__.py"})


def package_cycles() -> list[str]:
    """Packages directly below unetrpp that import each other, over however many steps (imports in functions count)."""
    graph = grimp.build_graph("unetrpp")
    packages = sorted(m for m in graph.find_children("unetrpp") if graph.find_children(m))
    reaches = {
        one: {other for other in packages if other != one and graph.chain_exists(one, other, as_packages=True)}
        for one in packages
    }
    return [f"{one} <-> {other}" for one in packages for other in reaches[one] if one < other and one in reaches[other]]


def long_parameter_lists() -> list[str]:
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, Function) and _positional(node) > MOST_POSITIONAL and not _is_operator(node):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({_positional(node)})")
    return found


def _positional(node: Function) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_operator(node: Function) -> bool:
    return any(name in ast.unparse(decorator) for decorator in node.decorator_list for name in OPERATOR_DECORATORS)


def untyped_public_names() -> list[str]:
    """Public names, and public methods of public classes, in whose type mypy shows ``Any``."""
    import unetrpp

    expressions = list(unetrpp.__all__)
    for name in unetrpp.__all__:
        value = getattr(unetrpp, name)
        if inspect.isclass(value):
            methods = [m for m, f in vars(value).items() if not m.startswith("_") and callable(f)]
            expressions += [f"{name}.{method}" for method in methods]
    lines = ["import unetrpp", *(f"reveal_type(unetrpp.{expression})" for expression in expressions)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "public.py"
        file.write_text("\n".join(lines) + "\n", encoding="utf8")
        config = ["--config-file", str(ROOT / "pyproject.toml"), "--strict", "--no-error-summary"]
        notes = api.run([*config, str(file)])[0].splitlines()
    revealed = [note.partition("Revealed type is ")[2] for note in notes if "Revealed type" in note]
    if len(revealed) != len(expressions):
        raise SystemExit("mypy did not reveal every public name:\n" + "\n".join(notes))
    return [f"{e}: {kind}" for e, kind in zip(expressions, revealed, strict=True) if "Any" in kind]


def main() -> int:
    checks = {
        "modules in the root of unetrpp/, besides __init__ and __main__": root_modules(),
        "package cycles": package_cycles(),
        f"functions with more than {MOST_POSITIONAL} positional parameters": long_parameter_lists(),
        "public names with Any in their type": untyped_public_names(),
    }
    for about, found in checks.items():
        print(f"{len(found):4d}  {about}")
        print("".join(f"        {line}\n" for line in found), end="")
    return int(any(checks.values()))


if __name__ == "__main__":
    sys.exit(main())
