"""What a driver refuses; every text is fit for the page of the test environment."""


class DriverError(Exception):
    """The copy cannot be made or removed; the text says why and what to do."""


class SourceChanged(DriverError):
    """The source was changed while it was read; a further try may succeed."""


class Interrupted(Exception):
    """The work is to end now: the host stops, or the environment is no longer ours."""
