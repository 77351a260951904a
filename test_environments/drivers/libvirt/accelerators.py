"""Which accelerators really work here: `/dev/kvm` and what a hypervisor says of itself may be wrong."""

from collections.abc import Callable

from test_environments.drivers.errors import DriverError
from test_environments.drivers.interface import Evidence
from test_environments.drivers.texts import Text as _

EVIDENCE = {"tcg": Evidence.EMULATED, "kvm": Evidence.ACCELERATED}


class Accelerators:
    """The one that is switched on, and emulation, which always is there. `boot` starts a machine with one."""

    def __init__(self, wanted: str, boot: Callable[[str], None]) -> None:
        self.wanted = wanted
        self._boot = boot
        self._refusals: dict[str, str] = {"tcg": ""}

    def why_not(self, accelerator: str) -> str:
        """Why it cannot be used, empty if it can; found out once, by a machine that has to come up."""
        if accelerator not in {"tcg", self.wanted}:
            return _(
                "The accelerator %(accelerator)s is not switched on; see the driver's settings.",
                accelerator=accelerator,
            )
        if accelerator not in self._refusals:
            try:
                self._boot(accelerator)
                self._refusals[accelerator] = ""
            except DriverError as error:
                self._refusals[accelerator] = _(
                    "No machine comes up with %(accelerator)s on this host: %(error)s",
                    accelerator=accelerator,
                    error=error,
                )
        return self._refusals[accelerator]

    def working(self) -> tuple[str, ...]:
        """Those that can be used, the wanted one first."""
        return tuple(name for name in dict.fromkeys((self.wanted, "tcg")) if not self.why_not(name))
