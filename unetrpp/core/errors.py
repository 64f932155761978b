"""Errors that a user can correct: each message is one sentence with the rule, the value and what to do."""

from collections.abc import Sequence


class UserError(Exception):
    """Bad input or a wrong request. Commands print the message without a traceback and exit with 2.

    ``case`` is the id of the case in question; the text of the error begins with it.
    """

    def __init__(self, message: str, *, case: str | None = None):
        super().__init__(message)
        self.case = case

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.case}: {message}" if self.case else message


def refuse(problems: Sequence[str], where: object) -> None:
    """Refuse something for all of its problems at once, a line each where there are several.

    Raises:
        UserError: there is a problem; the text begins with ``where``.
    """
    if len(problems) == 1:
        raise UserError(f"{where}: {problems[0]}")
    if problems:
        raise UserError(f"{where} has {len(problems)} errors:" + "".join(f"\n- {problem}" for problem in problems))
