"""The errors a user can mend: each message is one sentence with the rule, the value and the mend."""


class UserError(Exception):
    """Bad input or a wrong request. Commands print the message without a traceback and exit with 2.

    ``case`` is the id of the case at fault; it stands before the message.
    """

    def __init__(self, message: str, *, case: str | None = None):
        super().__init__(message)
        self.case = case

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.case}: {message}" if self.case else message
