"""The control of the proof of isolation: the same probe where nothing is closed."""

import subprocess
from pathlib import Path

from test_environments.drivers.libvirt.errands import Report, _pack, _read
from test_environments.drivers.libvirt.probing import Plan
from test_environments.drivers.libvirt.small_systems.build import for_errands
from tests.hypervisor.scenes import SECONDS, media


def probe_in_the_open(place: Path, plan: Plan) -> Report:
    """The probe machine with QEMU's user network in the host's own namespace."""
    kernel, initramfs = for_errands(media(), place / "boot")
    order, log = place / "order.raw", place / "errand.log"
    order.write_bytes(_pack(plan.order))
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "160", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{log}", "-nic", "user,model=virtio-net-pci"),
        *("-kernel", kernel, "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1 no_timer_check itsm.errand=probe"),
        *("-drive", f"file={order},format=raw,if=virtio"),
    ]
    subprocess.run(command, check=True, timeout=SECONDS)
    return _read(order, log, "probe")
