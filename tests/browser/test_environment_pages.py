"""Every page of test environments in every state, light, dark and on a telephone. SHOTS=<folder> keeps pictures."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cmdb.models import InstalledVersion
from test_environments import services
from test_environments.models import (
    CopySource,
    DiskReception,
    EnvironmentConsole,
    EnvironmentSnapshot,
    GoldenImage,
    TestEnvironment,
)
from test_environments.services.log import log
from tests.browser.person import Person
from tests.factories import PASSWORD, make_ci, make_product, make_user
from tickets.clock import database_now

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
VIEWS = {
    "light": {"width": 1280, "color_scheme": "light"},
    "dark": {"width": 1280, "color_scheme": "dark"},
    "narrow": {"width": 390, "color_scheme": "light"},
    "narrow-dark": {"width": 390, "color_scheme": "dark"},
}
CONSOLE = "".join(f"[    {n}.123456] virtio_blk virtio{n}: [vda] 2097152 512-byte logical blocks\n" for n in range(30))
PROBES = [
    {"target": "10.0.2.2:8000", "is_wanted": True, "is_reached": True, "detail": "the portal, through the relay"},
    {"target": "192.0.2.7:27000", "is_wanted": True, "is_reached": True, "detail": "allowed: licence.example.org"},
    {"target": "10.0.2.2:41235", "is_wanted": False, "is_reached": False, "detail": "nothing that is allowed"},
    {"target": "10.0.2.3:53", "is_wanted": False, "is_reached": False, "detail": "nothing that is allowed"},
]
INVENTORY = {"system": "Debian GNU/Linux 12 (bookworm)", "disks": [{"bytes": 2**31}], "machine": "QEMU Standard PC"}


class Copies:
    """CIs that may be copied in each way, and images, environments and disks in each state."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.engineer = make_user("eva", "release engineer", first_name="Eva", last_name="Engineer")
        self.manager = make_user("mara", "release manager", first_name="Mara", last_name="Manager")
        self.product = make_product("billing")
        ways: dict[str, dict[str, Any]] = {
            "till-files": {"folder": "shop/till-files"},
            "till-disk": {"folder": "till.raw", "driver": "libvirt", "method": "disk", "kind": "physical"},
            "till-domain": {"folder": "till", "driver": "libvirt", "method": "domain", "kind": "vm"},
            "till-medium": {"driver": "libvirt", "method": "medium", "kind": "physical"},
            "till-upload": {"driver": "libvirt", "method": "upload", "kind": "vm", "classification": "personal"},
        }
        self.cis = {name: make_ci(name, agent_id=name) for name in ways}
        for name, way in ways.items():
            CopySource.objects.create(ci=self.cis[name], **way)
        self.taken = self.image("ready")

    def image(self, state: str, source: str = "till-disk") -> GoldenImage:
        image = services.request_image(self.cis[source], actor=self.engineer, now=self.now, reason="REL-0000002")
        facts: dict[str, Any] = {"state": state}
        if state != "requested":
            facts |= {"approval": "person", "approved_by": self.manager, "approved_at": self.now}
        if state in {"ready", "deleting", "deleted"}:
            facts |= {
                "captured_at": self.now, "source_sha256": "a1" * 32, "image_sha256": "b2" * 32, "format": "qcow2",
                "source_bytes": 2**31, "image_bytes": 212_000_000, "baseline": {"billing": "1.0"},
                "versions": {"billing": ["0.9", "1.0"]}, "inventory": INVENTORY, "masked_with": "customer data",
                "masked": ["srv/till/customers.db"], "masked_at": self.now,
            }  # fmt: skip
        if state == "error":
            facts |= {
                "conversion": "virt_v2v",
                "last_error": "virt-v2v refused the disk: [   0.0] Setting up the source: -i disk disk.qcow2\n"
                "virt-v2v: error: inspection could not detect the source guest (or physical machine).",
            }
        GoldenImage.objects.filter(pk=image.pk).update(**facts)
        image.refresh_from_db()
        return image

    def environment(self, state: str, **facts: Any) -> TestEnvironment:
        environment = services.request_environment(
            self.cis["till-disk"], actor=self.engineer, now=self.now, purpose="REL-0000002", image=self.taken
        )
        if state not in {"requested", "capturing"}:
            facts = {"baseline": {"billing": "1.0"}, **facts}
            log(environment, "Made from IMG-0000001.", now=self.now)
        if state in {"capturing", "provisioning", "snapshotting", "reverting", "destroying"}:
            tasks = {"snapshotting": "snapshot", "reverting": "revert", "destroying": "destroy"}
            facts |= {
                "task": tasks.get(state, "make"),
                "task_started_at": self.now,
                "task_deadline": self.now + timedelta(minutes=15),
            }
        if state == "destroyed":
            facts["destroyed_at"] = self.now
        TestEnvironment.objects.filter(pk=environment.pk).update(state=state, **facts)
        environment.refresh_from_db()
        return environment

    def running(self, label: str = "1.1") -> TestEnvironment:
        """One with all that there is to see."""
        environment = self.environment(
            "ready", is_wanted_running=True, observed_power="running", observed_at=self.now, evidence="emulated",
            accelerator="tcg", isolation={"holds": True, "probes": PROBES, "at": self.now.isoformat()}, processors=2,
            memory_mb=2048, disk_growth_mb=4096, allowed_endpoints=["licence.example.org:27000"],
            endpoints_reason="It asks for a licence.", neutralised=["etc/cron.d/invoices", "etc/mail.json"],
        )  # fmt: skip
        assert environment.copy is not None
        InstalledVersion.objects.create(ci=environment.copy, product=self.product, label=label, valid_from=self.now)
        EnvironmentConsole.objects.create(environment=environment, text=CONSOLE, at=self.now)
        for name, kept_at in (("before 1.1", self.now), ("after the migration of all invoices", None)):
            EnvironmentSnapshot.objects.create(
                environment=environment, name=name, versions={"billing": "1.0"}, taken_by=self.engineer,
                created_at=self.now, kept_at=kept_at,
            )  # fmt: skip
        log(environment, "The copy's agent ended; it is started again.", now=self.now, is_problem=True)
        return environment

    def disk(self, state: str, source: str = "till-medium", **facts: Any) -> DiskReception:
        way = {"method": "upload", "format": "qcow2"} if source == "till-upload" else {"method": "medium", "port": None}
        disk = DiskReception.objects.create(
            ci=self.cis[source], reason="REL-0000002", requested_by=self.engineer, created_at=self.now,
            updated_at=self.now, expires_at=self.now + timedelta(days=2), state=state, **{**way, **facts},
        )  # fmt: skip
        log(disk, "Ordered.", now=self.now, actor=self.engineer)
        return disk


class Pages:
    """The same page in every view."""

    def __init__(self, browser: Any, address: str) -> None:
        make_user("boss", "release manager", "administrator", password=PASSWORD, is_superuser=True)
        self.people = {
            name: Person(
                browser, address, "boss", PASSWORD, color_scheme=view["color_scheme"],
                viewport={"width": view["width"], "height": 900},
            )
            for name, view in VIEWS.items()
        }  # fmt: skip

    def look(self, name: str, path: str, *texts: str, press: str = "") -> None:
        """The page shows the texts in every view, is no wider than its window, and the console has nothing to say."""
        for view, person in self.people.items():
            person.open(path)
            if press:
                person.page.locator(".page-head .actions .btn").filter(has_text=press).click()
                person.page.wait_for_selector("#verb-form form")
            if folder := os.environ.get("SHOTS"):
                Path(folder).mkdir(parents=True, exist_ok=True)
                person.shot(Path(folder) / f"{name}-{view}.png")
            shown = person.page.inner_text("main").lower()
            for text in texts:
                assert text.lower() in shown, f"{name}, {view}: no “{text}”"
            wide = person.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}, {view}: {wide} px too wide"
            assert person.said == []


@pytest.fixture
def pages(browser, live_server, settings, tmp_path: Path) -> Pages:
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": {}}
    settings.TEST_ENVIRONMENT_RECEIVER = ("192.0.2.10", 8443, 8450)
    settings.TEST_ENVIRONMENT_EXCHANGE = tmp_path / "disks"
    return Pages(browser, live_server.url)


def test_lists_and_wizards(pages: Pages) -> None:
    for kind, path in (("environments", ""), ("images", "images/"), ("disks", "disks/")):
        pages.look(f"list-{kind}-empty", f"/environments/{path}")
    copies = Copies(database_now())
    copies.running()
    copies.environment("error", last_error="128 MB are free.", error_from="provisioning")
    copies.disk("waiting")
    for kind, path in (("environments", ""), ("images", "images/"), ("disks", "disks/")):
        pages.look(f"list-{kind}", f"/environments/{path}", "till-")
        pages.look(f"choose-{kind}", f"/environments/{path}new/", "till-")
    for name, ci in copies.cis.items():
        pages.look(f"wizard-clone-{name}", f"/environments/new/{ci.number}/", name, "what for")
    for name in ("till-files", "till-disk", "till-domain"):
        pages.look(f"wizard-capture-{name}", f"/environments/images/new/{copies.cis[name].number}/", name)
    for name in ("till-medium", "till-upload"):
        DiskReception.objects.all().delete()
        pages.look(f"wizard-disk-{name}", f"/environments/disks/new/{copies.cis[name].number}/", name, "drivers of")


def test_environments_in_each_state(pages: Pages) -> None:
    copies = Copies(database_now())
    running = copies.running()
    alone = f"/environments/{running.number}/"
    pages.look("environment-running", alone, "emulated machine", "before 1.1", "holds", "virtio_blk", "leases")
    copies.running("1.2")
    pages.look("environment-beside", alone, "side by side", "1.2")
    for verb, press in (("snapshot", "Take a snapshot"), ("revert", "Revert"), ("destroy", "Destroy")):
        pages.look(f"environment-{verb}", alone, press=press)
    why = "It was made under qemu:///system. Set it back, or destroy the environment while the old one is set."
    elsewhere = copies.environment("ready", is_wanted_running=True, observed_power="unknown", last_error=why)
    pages.look("environment-elsewhere", f"/environments/{elsewhere.number}/", "unknown", "set it back")
    for state in TestEnvironment.State:
        facts: dict[str, Any] = {}
        if state == "error":
            facts = {
                "last_error": "The machine needs 4096 MB of memory, 812 MB are free.",
                "error_from": "provisioning",
            }
        environment = copies.environment(state, **facts)
        shown = TestEnvironment.State(state).label
        pages.look(f"environment-{state}", f"/environments/{environment.number}/", str(shown))


def test_images_in_each_state(pages: Pages) -> None:
    copies = Copies(database_now())
    copies.running()
    path = f"/environments/images/{copies.taken.number}/"
    pages.look("image-used", path, "b2b2", "customer data", "cannot be deleted")
    for state in GoldenImage.State:
        image = copies.image(state)
        shown = [GoldenImage.State(state).label] + ["adapted by virt-v2v"] * (state == "error")
        pages.look(f"image-{state}", f"/environments/images/{image.number}/", *map(str, shown))
        if state == "requested":
            pages.look("image-approve", f"/environments/images/{image.number}/", press="Approve")


def test_disks_in_each_state(pages: Pages) -> None:
    copies = Copies(database_now())
    facts: dict[str, dict[str, Any]] = {
        "waiting": {"medium_bytes": 33_000_000},
        "receiving": {"medium_bytes": 33_000_000, "size": 2**31, "received_bytes": 2**30, "sender": "192.0.2.44"},
        "arrived": {"sha256": "c3" * 32, "size": 2**31, "received_bytes": 2**31, "inventory": INVENTORY},
        "done": {"sha256": "c3" * 32, "size": 2**31, "received_bytes": 2**31, "cleared_at": copies.now},
        "error": {"last_error": "The file is not a qcow2 file.", "cleared_at": copies.now},
    }
    for source in ("till-medium", "till-upload"):
        for state in DiskReception.State:
            given = dict(facts.get(state, {}))
            if source == "till-upload":
                given.pop("medium_bytes", None)
            if state in {"arrived", "done"}:
                given = {**given, "image": copies.image("requested" if state == "arrived" else "ready")}
            disk = copies.disk(state, source, **given)
            pages.look(f"disk-{source}-{state}", f"/environments/disks/{disk.number}/", source)
            DiskReception.objects.filter(pk=disk.pk).update(state="expired")
