"""`unetrpp_serve`: answer requests with a model over HTTP: an image in, its segmentation and volumes back."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.command_line import Parser, let_waiting_threads_sleep, not_negative, own_options, positive, run
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_serve unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres
unetrpp_serve MODEL --port 9000 --no-mirroring
unetrpp_serve MODEL --host 0.0.0.0 --token-file token.txt
"""


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_serve",
        "Load a model and answer requests over HTTP until Ctrl-C: POST an image to /segment, or drop it on the page at /. "
        'Nothing of a request stays on disk. Needs pip install "unetrpp[serve]".',
        EXAMPLES,
        workspace=False,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model folder")
    what = "address to listen at; one that other machines reach needs --token-file (default: 127.0.0.1)"
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=what)
    add("--port", type=not_negative, default=8765, metavar="N", help="0 takes a free one (default: 8765)")
    add("--token-file", type=Path, metavar="FILE", help="file with the token that requests must have, on one line")
    what = "requests that may wait beside the one that is computed; further ones get 503 (default: 16)"
    add("--queue", type=not_negative, default=16, metavar="N", help=what)
    what = "largest upload, and largest image in memory as float32, in MB (default: 1024)"
    add("--largest-mb", type=positive, default=1024, metavar="MB", help=what)
    what = "folds to average, such as 0 1 or 0-4, or fold_all (default: all trained ones but fold_all, unless it is the only one)"
    add("--folds", nargs="+", metavar="FOLD", help=what)
    what = "one pass instead of the mean over mirrored passes: up to 8 times faster"
    add("--no-mirroring", dest="mirroring", action="store_false", help=what)
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    let_waiting_threads_sleep()
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives, once the service has ended."""
    from unetrpp.service.serve import ServiceResult

    return {"": ServiceResult}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.core.errors import UserError
    from unetrpp.core.text import counted
    from unetrpp.model.folder import typed_folds

    try:
        from unetrpp.service.serve import serve
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; run pip install "unetrpp[serve]"') from None
    folds = typed_folds(arguments.folds, [arguments.model], "final")
    result = serve(arguments.model, folds=folds, **own_options(arguments, "model", "folds"))
    print(f"ended; {counted(result.requests, 'request')} answered")
    return Outcome(result)


if __name__ == "__main__":
    sys.exit(main())
