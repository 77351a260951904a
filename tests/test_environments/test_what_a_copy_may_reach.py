"""What a copy is to be like: sizes and endpoints of machines, versions of the image; asked for in two steps."""

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from cmdb.models import Connection
from test_environments import services
from test_environments.drivers.libvirt import hypervisors
from test_environments.drivers.libvirt.endpoints import Endpoint
from test_environments.drivers.libvirt.hypervisors import Hypervisors
from test_environments.models import CopySource, GoldenImage, TestEnvironment
from tests.factories import NOW, make_ci, make_user
from tickets.exceptions import ConditionRefused, InvalidInput

pytestmark = pytest.mark.django_db


@pytest.fixture
def engineer():
    return make_user("engineer", "release engineer")


@pytest.fixture
def till(settings):
    """A production machine."""
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": {}}
    ci = make_ci("till-7", agent_id="till-7")
    CopySource.objects.create(ci=ci, folder="till-7.raw", driver="libvirt", method="disk", kind="vm")
    return ci


def request(till, engineer, **shape) -> TestEnvironment:
    return services.request_environment(till, actor=engineer, now=NOW, purpose="REL-0000002", **shape)


def test_endpoints_are_kept_in_plain_notation_and_in_the_log(till, engineer):
    environment = request(till, engineer, allowed_endpoints=["Licence.example.org:27000", "192.0.2.9:0443"])
    assert environment.allowed_endpoints == ["192.0.2.9:443", "licence.example.org:27000"]
    assert environment.events.filter(text__contains="licence.example.org:27000").exists()


@pytest.mark.parametrize(
    "endpoint",
    [
        "db",
        "db:",
        "db:0",
        "db:70000",
        ":80",
        "http://db:80",
        "a b:80",
        "localhost:80",
        "127.0.0.1:80",
        "0.0.0.0:1",
        "3221225991:5432",
        "192.0.519:5432",
        "0x7f.1:80",
    ],
)
def test_what_is_no_endpoint_is_refused(till, engineer, endpoint):
    with pytest.raises(InvalidInput):
        request(till, engineer, allowed_endpoints=[endpoint])
    assert not TestEnvironment.objects.exists()


@pytest.mark.parametrize(
    "endpoint", ["billing-db:5432", "BILLING-DB.example.org:5432", "192.0.2.7:5432", "192.0.2.8:1"]
)
def test_a_production_ci_is_reached_only_with_a_recorded_reason(till, engineer, endpoint):
    database = make_ci("billing-db", attributes={"address": "192.0.2.8"})
    Connection.objects.create(ci=database, address="192.0.2.7", user="deploy")
    with pytest.raises(ConditionRefused, match="production CIs: billing-db"):
        request(till, engineer, allowed_endpoints=[endpoint])
    environment = request(
        till, engineer, allowed_endpoints=[endpoint], endpoints_reason="Read-only replica, agreed with its owner."
    )
    assert environment.endpoints_reason.startswith("Read-only")
    assert environment.events.filter(text__contains="Read-only replica").exists()


def test_a_machine_has_no_network_of_the_host_and_files_have_no_sizes(till, engineer):
    with pytest.raises(InvalidInput, match="never gets"):
        request(till, engineer, network="host")
    with pytest.raises(InvalidInput, match="nothing can be reached"):
        request(till, engineer, network="none", allowed_endpoints=["db.example.org:1"])
    image = GoldenImage(kind="files")
    with pytest.raises(InvalidInput, match="Only machines"):
        services.environments.shape_of(image, {"memory_mb": 512})


@pytest.fixture
def daemon(settings):
    """The hypervisor is a daemon, whose network is not ours to close off."""
    driver = {"class": "test_environments.drivers.libvirt.driver.Libvirt", "options": {"uri": "qemu:///system"}}
    settings.TEST_ENVIRONMENT_DRIVERS = {**settings.TEST_ENVIRONMENT_DRIVERS, "libvirt": driver}


def test_a_daemon_is_not_asked_for_a_network_that_it_cannot_close(till, daemon, engineer):
    for shape in ({}, {"network": "isolated"}):
        with pytest.raises(InvalidInput, match="Set TEST_ENVIRONMENT_LIBVIRT_URI to qemu:///embed"):
            request(till, engineer, **shape)
    api = APIClient()
    api.force_authenticate(engineer)
    asked = {"source": till.number, "purpose": "REL-0000002", "network": "isolated"}
    refused = api.post("/api/v1/environments/", asked, format="json")
    assert (refused.status_code, "get no network" in refused.content.decode()) == (400, True)
    assert not TestEnvironment.objects.exists()
    assert request(till, engineer, network="none").network == "none"


def test_the_form_offers_only_the_network_that_a_daemon_can_give(client, till, daemon, engineer):
    client.force_login(engineer)
    form = reverse("environment_order", args=[till.number])
    page = client.get(form).content.decode()
    assert 'value="isolated"' not in page
    assert "allowed_endpoints" not in page
    assert "Set TEST_ENVIRONMENT_LIBVIRT_URI to qemu:///embed" in page
    asked = {"purpose": "REL-0000002", "clone": "linked"}
    assert client.post(form, {**asked, "network": "isolated"}).status_code == 400
    assert client.post(form, {**asked, "network": "none"}).status_code == 302
    assert TestEnvironment.objects.get().network == "none"


def test_a_version_that_the_image_does_not_hold_is_refused_at_once(till, engineer):
    image = services.request_image(till, actor=engineer, now=NOW, reason="REL-0000002")
    held = {"versions": {"billing": ["0.9", "1.0"]}, "source_sha256": "a" * 64, "image_sha256": "a" * 64}
    GoldenImage.objects.update(state="ready", approval="standing", **held)
    image.refresh_from_db()
    with pytest.raises(InvalidInput, match=r"does not hold billing 3.0"):
        request(till, engineer, image=image, versions={"billing": "3.0"})
    assert request(till, engineer, image=image, versions={"billing": "0.9"}).versions == {"billing": "0.9"}


def test_the_second_step_asks_only_for_what_fits_the_ci(client, till, engineer):
    client.force_login(engineer)
    chosen = client.get(reverse("environment_create")).content.decode()
    form = reverse("environment_order", args=[till.number])
    assert form in chosen
    asked = {
        "purpose": "REL-0000002", "clone": "full", "processors": "2", "memory_mb": "512", "disk_growth_mb": "",
        "network": "isolated", "allowed_endpoints": "licence.example.org:27000\n192.0.2.9:443",
    }  # fmt: skip
    assert client.post(form, asked).status_code == 302
    made = TestEnvironment.objects.get()
    assert (made.clone, made.processors, made.memory_mb, made.disk_growth_mb) == ("full", 2, 512, 0)
    assert made.allowed_endpoints == ["192.0.2.9:443", "licence.example.org:27000"]
    CopySource.objects.update(kind="files", method="folder", driver="file_copy")
    assert "allowed_endpoints" not in client.get(form).content.decode()
    refused = client.post(reverse("environment_order", args=[make_ci("till-8").number]), asked)
    assert refused.status_code == 404


def test_a_short_name_is_that_of_a_ci_with_a_long_one(till, engineer):
    make_ci("ledger-db.example.org")
    with pytest.raises(ConditionRefused, match=r"ledger-db\.example\.org"):
        request(till, engineer, allowed_endpoints=["ledger-db:5432"])


class Closing:
    """A hypervisor of which only its end matters."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_only_hypervisors_without_a_machine_go_whatever_the_endpoints_are_called(tmp_path):
    by_address, by_name = Endpoint("192.0.2.9", 443, "192.0.2.9"), Endpoint("192.0.2.9", 443, "licence.example.org")
    other = Endpoint("192.0.2.10", 443, "192.0.2.10")
    found = Hypervisors("x", tmp_path, tmp_path, "nobody", folders=[], say=print)
    kept, gone = Closing(), Closing()
    for endpoint, hypervisor in ((by_address, kept), (other, gone)):
        mark = hypervisors._mark((endpoint,))
        (tmp_path / mark).mkdir()
        found._opened[mark] = hypervisors.Opened(hypervisor, None)
    (tmp_path / "h-0000dead").mkdir()
    (tmp_path / "h").mkdir()
    found.keep_only(lambda: {(by_name,), ()})
    assert (kept.is_closed, gone.is_closed) == (False, True)
    assert {path.name for path in tmp_path.iterdir()} == {"h", hypervisors._mark((by_address,))}
