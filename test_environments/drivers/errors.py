"""What a driver refuses; every text is fit for the page of the test environment and says what to do."""


class DriverError(Exception):
    """A verb was not done. `may_pass`: the same order may succeed later, without anybody doing anything."""

    may_pass = False

    @property
    def text(self) -> str:
        """What it says, still fit for other languages (`texts.py`)."""
        return self.args[0] if self.args else str(self)


class NotFound(DriverError):
    """The source, image, environment or snapshot does not exist."""


class Conflict(DriverError):
    """What is there stands against it: it runs, it is in use, it is another one."""


class SourceChanged(Conflict):
    """The source was changed while it was read."""

    may_pass = True


class Unsupported(DriverError):
    """This driver, or this host, cannot do it at all."""


class Unavailable(DriverError):
    """The hypervisor does not answer."""

    may_pass = True


class GuestUnresponsive(DriverError):
    """The machine is there, but what runs in it does not answer, or ended again and again."""


class Capacity(DriverError):
    """Not enough memory or disk; the text says how much is needed and free."""


class Failed(DriverError):
    """It was tried and went wrong: a checksum, the disk, the deadline."""


class Interrupted(Exception):
    """The work is to end now: the host stops, or the environment is no longer ours."""
