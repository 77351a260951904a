"""A hypervisor with one image to make environments from, without a portal."""

import shutil
import subprocess
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings as django_settings

from test_environments.drivers.bound import Bound
from test_environments.drivers.interface import (
    CaptureOrder,
    Clone,
    Consistency,
    CreateOrder,
    Delivery,
    Driver,
    Image,
    Kind,
    NetworkMode,
    Provenance,
    Recipe,
)
from test_environments.drivers.libvirt.driver import Libvirt
from tests.hypervisor.guests import MEDIA, Source

PROVENANCE = Provenance("https://portal.example.org", "ENV-0000005", "till-7", "2026-11-02T09:00:00Z")
SECONDS = 480.0  # also where other work keeps the processors busy


def media() -> Path:
    """Where the small systems of all tests are built, once."""
    return Path(django_settings.BASE_DIR) / MEDIA


class Golden:
    """A disk, its image once it was taken, and what libvirt found out about QEMU (which takes it nine seconds)."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = folder
        self.sources = folder / "sources"
        self.sources.mkdir()
        source.write(self.sources / "till-7.raw")
        self.order = CaptureOrder(uuid4(), Kind.PHYSICAL, "disk", "till-7.raw", Consistency.COLD, PROVENANCE)

    def image(self, driver: Driver, place: Path) -> Image:
        """The image in the driver's folder: taken by the first who asks, a copy of that for others."""
        kept, wanted = self._folder / "image", place / "images" / str(self.order.image)
        if kept.exists() and not wanted.exists():
            wanted.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            copy(kept, wanted)
        image = driver.capture(self.order, Bound(SECONDS))
        if not kept.exists():
            copy(wanted, kept)
        return image

    def give_knowledge(self, place: Path) -> None:
        if (self._folder / "cache").exists():
            (place / "h").mkdir()
            copy(self._folder / "cache", place / "h" / "cache")

    def take_knowledge(self, place: Path) -> None:
        if (place / "h" / "cache").exists() and not (self._folder / "cache").exists():
            copy(place / "h" / "cache", self._folder / "cache")

    def prepare_host(self, place: Path, folder: Path) -> None:
        """Gives a test host's folder of machines below `place` what is known, and the small system."""
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        if (place / "h").exists():
            (place / "h").rename(folder / "h")
        (folder / "media").symlink_to(media())

    def offer_disk(self, sources: Path) -> None:
        """Puts the disk into a portal's folder of sources."""
        sources.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.sources / "till-7.raw", sources / "till-7.raw")


def copy(source: Path, target: Path) -> None:
    """With owners, modes and times."""
    subprocess.run(["cp", "-a", source, target], check=True, timeout=120)


class Machines:
    """A driver in a folder of its own; `close` ends all that it made."""

    def __init__(self, place: Path, golden: Golden) -> None:
        self.place = place
        self._golden = golden
        self.driver = self.open()

    def image(self) -> Image:
        """The golden one."""
        return self._golden.image(self.driver, self.place)

    def open(self, **options: str) -> Libvirt:
        """A new driver on the same folder, as after the runner was killed."""
        all_options = {"sources": self._golden.sources, "media": media(), **options}
        return Libvirt(self.place, portal=PROVENANCE.portal, options=all_options, say=print)

    def bound(self) -> Bound:
        return Bound(SECONDS)

    def capture(self, method: str, location: str, consistency: Consistency = Consistency.COLD) -> Image:
        kind = Kind.VM if method == "domain" else Kind.PHYSICAL
        order = CaptureOrder(uuid4(), kind, method, location, consistency, PROVENANCE)
        return self.driver.capture(order, self.bound())

    def create(self, image: Image, *endpoints: str) -> UUID:
        environment = uuid4()
        order = CreateOrder(
            environment, image.image, image.image_sha256, PROVENANCE, Clone.LINKED, NetworkMode.ISOLATED, endpoints
        )
        self.driver.create(order, self.bound())
        return environment

    def deliver(self, environment: UUID, portal_url: str, *recipes: Recipe) -> tuple[str, ...]:
        delivery = Delivery(portal_url, "copy-1", "secret", {"poll_min_seconds": 0.5}, recipes)
        return self.driver.deliver(environment, delivery, self.bound())

    def says(self, environment: UUID, text: str) -> bool:
        return text in self.driver.console(environment)

    def close(self) -> None:
        for owned in self.driver.list_owned(self.bound()):
            if owned.what == "environment":
                self.driver.destroy(owned.uuid, self.bound())
        self.driver.close()
