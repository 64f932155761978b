"""Whether a command that was stopped, given again, ends with what an undisturbed one leaves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.bench import Bench
from benchmarks.reliability.trees import content, restore

COLUMNS = ("same", "differing", "left", "refused")
HEADINGS = ("same result", "differing files", "left-overs", "refused to continue")


@dataclass(frozen=True)
class Judge:
    """``state`` is the folder before the command, ``wanted`` what it leaves undisturbed (:func:`content`)."""

    bench: Bench
    arguments: Sequence[str]
    state: Path
    wanted: dict[str, str]

    def reset(self) -> None:
        """Make the folder what it was before the command."""
        restore(self.state, self.bench.place)

    def report(self, problem: str) -> None:
        self.bench.report(f"{' '.join(self.arguments[:3])} {problem}")

    def again(self, where: str) -> Counter[str]:
        """Give the command again and count; ``where`` says how it was stopped."""
        code = self.bench.run(self.arguments)
        counts, details = self.compare(code)
        if not counts["same"]:
            said = self.bench.said.strip().splitlines()[-3:] if code else ""
            self.report(f"{where}: {details}, then exit {code} {said}")
        return counts

    def compare(self, code: int) -> tuple[Counter[str], str]:
        """The counts of ``COLUMNS`` for what is there now, and the files that are wrong."""
        found = content(self.bench.place)
        left = sorted(set(found) - set(self.wanted))
        differing = sorted(path for path in self.wanted if found.get(path) != self.wanted[path])
        same = not (code or left or differing)
        counts = Counter(same=int(same), left=len(left), differing=len(differing), refused=int(code != 0))
        return counts, f"differing {differing[:5]}, left {left[:5]}"


def table(head: Sequence[str], columns: Sequence[str], counts: dict[str, Counter[str]]) -> str:
    """Markdown, one row a command and their sum."""
    rows = [("command", *head), ("---",) + ("---:",) * len(columns)]
    for name, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        rows.append((name, *(str(count[column]) for column in columns)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
