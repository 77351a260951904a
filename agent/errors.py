"""The errors that cross module borders."""


class InstallError(Exception):
    """An action cannot be carried out; it is closed as a failure.

    ``code`` is one of the words listed in docs/agent.md and starts the first detail line of the report;
    ``lines`` are further detail lines, for example the output of a health check.
    """

    def __init__(self, code: str, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.lines = lines

    def details(self) -> list[str]:
        """All detail lines, the one with the code first."""
        return [str(self), *self.lines]


class Stopped(Exception):
    """SIGTERM or SIGINT came: leave at this step; the state on disk is enough to go on later."""


class Cancelled(Exception):
    """The server cancels the action in hand, and nothing was switched yet."""


class Abandoned(Exception):
    """The server no longer knows the action in hand, and nothing was switched yet."""
