"""Commands that are killed at every change of a file and at random moments: does the same command again make it good?

    python -m benchmarks.reliability.kill [--commands convert train ...] [--moments 20] [--signals 4] [--workers 2] [--seed 1]

A first run of each command counts what it changes on disk, event by event. Then, for every event, it is killed there, the same
command runs again undisturbed, and the folders are compared with those of a run that was never interrupted. ``--events N``
takes a sample of N events of each command line instead of all.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability import stops
from benchmarks.reliability.bench import Bench, import_everything
from benchmarks.reliability.commands import COMMANDS, Command, write_sources
from benchmarks.reliability.interruption import AFTER, BEFORE, HALF, Watch
from benchmarks.reliability.judgement import COLUMNS as JUDGED
from benchmarks.reliability.judgement import HEADINGS as JUDGED_HEADINGS
from benchmarks.reliability.judgement import Judge, table
from benchmarks.reliability.trees import content, restore

ROWS = tuple(dict.fromkeys(command.row for command in COMMANDS if command.row))
COLUMNS = ("events", "kills", *JUDGED)
HEADINGS = ("events", "kills", *JUDGED_HEADINGS)
WITH_HALF = ("write", "fsync")
SERIAL = "--processes=1"  # of the commands that have worker processes


def kills_of(events: Sequence[str]) -> list[tuple[int, str]]:
    """Number and side of every kill: before each event, which is after the one before it; in the middle of each write; and
    after the last event."""
    kills = [(n, BEFORE) for n in range(1, len(events) + 1)]
    kills += [(n, HALF) for n, kind in enumerate(events, 1) if kind in WITH_HALF]
    return sorted([*kills, (len(events), AFTER)])


def kill_at_events(judge: Judge, events: Sequence[str], kills: Sequence[tuple[int, str]]) -> Counter[str]:
    counts = Counter[str]()
    for n, side in kills:
        judge.reset()
        code = judge.bench.run(judge.arguments, Watch(judge.bench.place, n, side))
        # A record that is written every few seconds makes an event more or less: then it ran to its end.
        counts += Counter(kills=int(code == -signal.SIGKILL))
        counts += judge.again(f"killed {side} event {n} ({events[n - 1]})")
    return counts


def kill_at_moments(judge: Judge, count: int, seconds: float, rng: random.Random) -> Counter[str]:
    counts = Counter[str]()
    for _ in range(count):
        delay = rng.uniform(0, seconds)
        judge.reset()
        judge.bench.stop(judge.arguments, signal.SIGKILL, delay)
        counts += Counter(kills=1) + judge.again(f"killed after {delay:.3f} s")
    return counts


def share(count: int, command: Command) -> int:
    """How many of the ``count`` random moments of a row fall to this command line of it."""
    lines = [other for other in COMMANDS if other.row == command.row]
    return len(range(lines.index(command), count, len(lines)))


def interrupt(bench: Bench, command: Command, options: argparse.Namespace) -> tuple[Counter[str], Counter[str]]:
    """The counts of one command line for both tables; the folder is then as the command leaves it."""
    rng = random.Random(f"{options.seed} {command.arguments}")
    state = bench.root / "state"
    restore(bench.place, state)
    events, seconds = bench.count(command.arguments)
    judge = Judge(bench, command.arguments, state, content(bench.place))
    kills = kills_of(events[: command.first])
    if options.events is not None:
        kills = sorted(rng.sample(kills, min(options.events, len(kills))))
    kills_counts = Counter(events=len(events[: command.first])) + kill_at_events(judge, events, kills)
    kills_counts += kill_at_moments(judge, share(options.moments, command), seconds, rng)
    stops_counts = stops.send_signals(judge, share(options.signals, command), seconds, rng)
    if SERIAL in command.arguments and command.first is None:
        parallel = tuple("--processes=2" if word == SERIAL else word for word in command.arguments)
        stops_counts += stops.kill_workers(Judge(bench, parallel, state, judge.wanted), options.workers, rng)
    judge.reset()
    bench.run(command.arguments)
    print(
        f"{' '.join(command.arguments[:3])} ...: {dict(kills_counts)}, {dict(stops_counts)}",
        file=sys.stderr,
        flush=True,
    )
    return kills_counts, stops_counts


def campaign(options: argparse.Namespace) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]], list[str]]:
    """The counts of both tables by row, and what went wrong."""
    kills: dict[str, Counter[str]] = {row: Counter() for row in ROWS if row in options.commands}
    stopped: dict[str, Counter[str]] = {row: Counter() for row in kills}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.place.mkdir()
        write_sources(bench.place)
        last = max(number for number, command in enumerate(COMMANDS) if command.row in kills)
        for command in COMMANDS[: last + 1]:
            if command.row in kills:
                found = interrupt(bench, command, options)
                kills[command.row] += found[0]
                stopped[command.row] += found[1]
            elif bench.run(command.arguments):
                raise RuntimeError(f"{command.arguments} failed:\n{bench.said}")
    return kills, stopped, bench.problems


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=ROWS, default=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--events", type=int, help="a sample of so many kills at events of each command line")
    parser.add_argument("--moments", type=int, default=20, help="kills at random moments of each command")
    parser.add_argument("--signals", type=int, default=4, help="Ctrl-C and SIGTERM at random moments of each command")
    parser.add_argument("--workers", type=int, default=2, help="kills of a worker process of each line that has some")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> int:
    options, start = build_parser().parse_args(), time.monotonic()
    if hasattr(os, "sched_setaffinity"):  # one core, so that commands start no worker processes by themselves
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
    import_everything()
    kills, stopped, problems = campaign(options)
    print(table(HEADINGS, COLUMNS, kills), table(stops.HEADINGS, stops.COLUMNS, stopped), sep="\n\n")
    spent = sum(os.times()[:4])
    print(f"\nseed {options.seed}, {time.monotonic() - start:.0f} s, {spent:.0f} CPU seconds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
