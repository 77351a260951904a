"""The driver on a hypervisor, for the contract of all drivers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from test_environments.drivers.interface import Clone, Evidence, Image, NetworkMode
from test_environments.drivers.libvirt.driver import Libvirt
from tests.hypervisor.guests import read_file
from tests.hypervisor.scenes import PROVENANCE, Golden, media
from tests.test_environments.driver_contract import Bench


@contextmanager
def libvirt_bench(
    place: Path,
    tmp_path: Path,
    golden: Golden,
    *,
    network: NetworkMode = NetworkMode.ISOLATED,
    seconds: float = 90.0,
    **options: Any,
) -> Iterator[Bench]:
    """Linked clones below `place`; all of them are destroyed at the end."""
    opened: list[Libvirt] = []

    def open_driver(portal: str = PROVENANCE.portal) -> Libvirt:
        for driver in opened:  # one owner at a time
            driver.close()
        all_options = {"sources": golden.sources, "media": media(), **options}
        opened.append(Libvirt(place, portal=portal, options=all_options, say=print))
        return opened[-1]

    def write(environment: UUID, text: str) -> None:
        files = bench.driver._at_rest(environment, bench.bound())
        order = {"files/srv/note.txt": text.encode()}
        bench.driver._here.errands.run(
            "prepare", environment, files.folder, bench.bound(), provenance=PROVENANCE, disk=files.top, order=order
        )

    class GoldenBench(Bench):
        """Tests that are not about taking images use one that was taken before."""

        def capture(self) -> Image:
            return golden.image(self.driver, place)

    bench = GoldenBench(
        driver=open_driver(),
        reopen=open_driver,
        foreign=lambda: open_driver("https://another.example.org"),
        capture_order=golden.order,
        missing_location="till-8.raw",
        evidence=Evidence.EMULATED,
        clone=Clone.LINKED,
        network=network,
        write=write,
        read=lambda key: read_file(bench.driver._files(key).top, "srv/note.txt", tmp_path),
        seconds=seconds,
    )
    try:
        yield bench
    finally:
        last = open_driver()
        for owned in last.list_owned(bench.bound()):
            if owned.what == "environment":
                last.destroy(owned.uuid, bench.bound())
        last.close()
