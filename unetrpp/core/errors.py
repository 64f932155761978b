"""Errors that a user can correct: each message is one sentence with the rule, the value and what to do."""


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
