"""Whether virt-v2v adapts a foreign disk is chosen with its order, by page and API, and stays with its image."""

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from test_environments import services
from test_environments.drivers.errors import Unsupported
from test_environments.drivers.interface import Consistency, Conversion, Image
from test_environments.drivers.receiving import ArrivedDisk
from test_environments.models import CopySource, DiskReception, GoldenImage
from test_environments.runner.image_jobs import ImageJob
from test_environments.runner.jobs import claim
from test_environments.services.receptions import arrive
from tests.factories import NOW, make_ci, make_user
from tickets.clock import database_now
from tickets.exceptions import InvalidInput

pytestmark = pytest.mark.django_db


@pytest.fixture
def engineer():
    return make_user("engineer", "release engineer")


@pytest.fixture
def till(tmp_path, settings):
    settings.TEST_ENVIRONMENT_EXCHANGE = tmp_path / "exchange"
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": {}}
    settings.TEST_ENVIRONMENT_RECEIVER = ("127.0.0.1", 8443, 8443)
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, driver="libvirt", method="medium", kind="physical")
    return ci


def test_the_choice_is_made_with_the_order_and_goes_with_the_disk_to_its_image(client, till, engineer):
    client.force_login(engineer)
    page = reverse("disk_order", args=[till.number])
    assert "virt-v2v puts those for virtual machines into it" in client.get(page).content.decode()
    client.post(page, {"reason": "A test.", "hours": "24", "conversion": "virt_v2v"})
    reception = DiskReception.objects.get()
    DiskReception.objects.update(state="receiving")
    reception.refresh_from_db()
    arrive(reception, ArrivedDisk("a" * 64, 1), now=NOW)
    image = GoldenImage.objects.get()
    assert image.conversion == "virt_v2v"
    assert "adapted by virt-v2v" in client.get(reverse("image_detail", args=[image.number])).content.decode()
    assert "adapted by virt-v2v" in client.get(reverse("disk_detail", args=[reception.number])).content.decode()


def test_nobody_who_does_not_ask_for_it_gets_it(client, till, engineer):
    client.force_login(engineer)
    client.post(reverse("disk_order", args=[till.number]), {"reason": "A test.", "hours": "24"})
    assert DiskReception.objects.get().conversion == "keep"


def test_by_the_api_it_is_chosen_for_disks_and_refused_for_what_brings_none(till, engineer):
    api = APIClient()
    api.force_authenticate(engineer)
    ordered = api.post("/api/v1/disks/", {"ci": till.number, "reason": "x", "conversion": "virt_v2v"}, format="json")
    assert (ordered.status_code, ordered.json()["disk"]["conversion"]) == (201, "virt_v2v")
    order = {"source": till.number, "reason": "x", "conversion": "virt_v2v"}
    CopySource.objects.update(method="domain", kind="vm", folder="till-7")
    assert api.post("/api/v1/images/", order, format="json").status_code == 400
    CopySource.objects.update(method="disk", folder="till-7.raw")
    taken = api.post("/api/v1/images/", order, format="json")
    assert (taken.status_code, taken.json()["conversion"]) == (201, "virt_v2v")


def test_what_brings_no_foreign_disk_is_not_adapted(till, engineer):
    CopySource.objects.update(method="folder", kind="files", driver="file_copy", folder="till-7")
    with pytest.raises(InvalidInput, match="disk of another machine"):
        services.images.check_conversion(CopySource.objects.get(), "virt_v2v")


class Driver:
    """Takes every image, or refuses it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.orders = []

    def capture(self, order, bound) -> Image:
        self.orders.append(order)
        if self.refusal:
            raise self.refusal
        said = "virt-v2v: warning: no virtio drivers"
        return Image(order.image, "qcow2", "a" * 64, "b" * 64, 1, 1, Consistency.COLD, said=said)


@pytest.fixture
def image(till, engineer) -> GoldenImage:
    CopySource.objects.update(method="disk", kind="vm", folder="till-7.raw")
    image = services.request_image(till, actor=engineer, now=NOW, reason="x", conversion="virt_v2v")
    services.approve_image(image, actor=make_user("manager", "release manager"), now=NOW)
    return image


def capture(image: GoldenImage, driver: Driver) -> GoldenImage:
    job = ImageJob(image, "capture", claim(image, "capture", now=database_now()), driver)
    job.run()
    image.refresh_from_db()
    return image


def test_the_test_host_is_told_and_what_virt_v2v_said_stands_in_the_events(image):
    driver = Driver()
    assert capture(image, driver).state == "ready"
    assert driver.orders[0].conversion is Conversion.VIRT_V2V
    assert image.events.filter(text__contains="no virtio drivers", is_problem=False).exists()


def test_its_refusal_stands_with_the_image_and_a_retry_asks_again(image, engineer):
    assert capture(image, Driver(Unsupported("apt install virt-v2v nbdkit"))).state == "error"
    assert "apt install virt-v2v" in image.last_error
    assert image.events.filter(text__contains="apt install virt-v2v", is_problem=True).exists()
    services.retry_image(image, actor=engineer, now=NOW)
    assert capture(image, Driver()).state == "ready"
