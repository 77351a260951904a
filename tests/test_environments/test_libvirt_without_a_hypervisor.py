"""What the libvirt driver does before any machine: errors, orders, reports, files of its small system."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from test_environments.drivers import errors
from test_environments.drivers.bound import Bound
from test_environments.drivers.interface import CreateOrder, Delivery, NetworkMode, Power, Provenance, Recipe
from test_environments.drivers.libvirt import hypervisor, orders
from test_environments.drivers.libvirt.connection import Connection, error_for
from test_environments.drivers.libvirt.driver import Libvirt
from test_environments.drivers.libvirt.environment_files import write_about
from test_environments.drivers.libvirt.errands import parse_report
from test_environments.drivers.libvirt.hypervisor import Hypervisor, url_inside
from test_environments.drivers.libvirt.machine import Disk, Machine, describe, read_provenance
from test_environments.drivers.libvirt.small_systems.initramfs import Initramfs
from test_environments.drivers.libvirt.uris import read_uri

HOSTILE = 'till "7" <&\'>'


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (42, errors.NotFound), (55, errors.Conflict), (67, errors.Unsupported), (38, errors.Unavailable),
        (86, errors.GuestUnresponsive), (2, errors.Capacity), (1, errors.Failed), (0, errors.Failed),
    ],
)  # fmt: skip
def test_each_error_of_libvirt_is_one_of_ours(code: int, kind: type[errors.DriverError]) -> None:
    assert type(error_for(code, "why")) is kind
    assert type(error_for(code, "write: No space left on device")) is errors.Capacity


def test_the_numbers_are_those_of_libvirt() -> None:
    libvirt = pytest.importorskip("libvirt")
    assert libvirt.VIR_ERR_NO_DOMAIN == 42
    assert libvirt.VIR_ERR_OPERATION_INVALID == 55
    assert libvirt.VIR_ERR_CONFIG_UNSUPPORTED == 67
    assert libvirt.VIR_ERR_SYSTEM_ERROR == 38
    assert libvirt.VIR_ERR_AGENT_UNRESPONSIVE == 86
    assert libvirt.VIR_ERR_NO_MEMORY == 2
    assert libvirt.VIR_ERR_RESOURCE_BUSY == 87
    assert libvirt.VIR_ERR_DOM_EXIST == 28


def test_without_the_library_the_driver_says_how_to_install_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "libvirt.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    connection = Connection("test:///default", enter=list, say=print)
    try:
        with pytest.raises(errors.Unavailable, match=r"apt install .* pip install"):
            connection.call("hello", Bound(30))
    finally:
        connection.close()
    assert connection.pid is None


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_given_up_and_a_dead_owner_is_followed_by_another() -> None:
    pytest.importorskip("libvirt")
    connection = Connection("test:///default", enter=list, say=print)
    try:
        first = connection.call("hello", Bound(30))["pid"]
        with pytest.raises(errors.NotFound):
            connection.call("uuid_of", Bound(30), name="nobody")
        subprocess.run(["kill", "-STOP", str(first)], check=True)
        with pytest.raises(errors.Unavailable, match="did not answer"):
            connection.call("hello", Bound(30), seconds=0.2)
        assert connection.call("hello", Bound(30))["pid"] != first
    finally:
        connection.close()


def test_a_machine_that_does_not_end_by_force_either_is_said(monkeypatch) -> None:
    monkeypatch.setattr(hypervisor, "_KILL_SECONDS", 0.2)
    monkeypatch.setattr(Hypervisor, "process_of", lambda self, uuid: 1)
    stuck = object.__new__(Hypervisor)
    stuck.connection = SimpleNamespace(call=lambda *_, **__: {"state": hypervisor.RUNNING, "reason": 0})
    with pytest.raises(errors.GuestUnresponsive, match="not by force"):
        stuck.kill("a machine", Bound(5))
    with pytest.raises(errors.Failed, match="did not finish"):
        stuck.kill("a machine", Bound(0.1))


def test_unknown_options_and_values_are_refused(tmp_path: Path) -> None:
    for options in ({"colour": "red"}, {"accelerator": "warp"}, {"hardware": "steam"}):
        with pytest.raises(errors.Unsupported):
            Libvirt(tmp_path, portal="x", options=options, say=print)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("xen:///system", "cannot use"), ("qemu+tcp://host/system", "cannot use"), ("qemu:///other", "cannot use"),
        ("qemu+ssh:///system", "cannot use"), ("qemu+ssh://user:secret@host/system", "cannot use"),
        ("qemu:///embed?root=/srv/x", "TEST_ENVIRONMENT_MACHINES"), ("qemu:///system?socket=sock", "absolute path"),
        ("qemu+ssh://host/system?no_verify=1", "known_hosts"), ("qemu+ssh://host/system?command=/bin/x", "refused"),
        ("qemu+ssh://host/system?keyfile=/a%20b", "blanks"), ("qemu+ssh://host/embed", "cannot use"),
    ],
)  # fmt: skip
def test_a_uri_that_cannot_be_kept_to_is_refused_with_what_to_write(tmp_path: Path, uri: str, why: str) -> None:
    with pytest.raises(errors.Unsupported, match=why):
        Libvirt(tmp_path, portal="x", options={"uri": uri}, say=print)


@pytest.mark.parametrize("uri", ["qemu:///session", "qemu:///system", "qemu+ssh://libvirt@host/system"])
def test_machines_of_a_daemon_get_no_network_and_the_text_says_what_to_do(uri: str) -> None:
    assert "TEST_ENVIRONMENT_LIBVIRT_URI to qemu:///embed" in read_uri(uri).why_not_closed()
    assert read_uri("qemu:///embed").why_not_closed() == ""


def test_another_host_is_reached_with_its_key_checked_and_nothing_forwarded(tmp_path: Path) -> None:
    uri = read_uri("qemu+ssh://libvirt@host:2222/system?keyfile=/etc/itsm/key&known_hosts=/etc/itsm/known_hosts")
    opened = uri.to_open(tmp_path / "h")
    command = (tmp_path / "h" / "ssh").read_text()
    assert opened.startswith("qemu+ssh://libvirt@host:2222/system?keyfile=/etc/itsm/key&command=")
    assert "known_hosts" not in opened
    for option in ("StrictHostKeyChecking=yes", "ForwardAgent=no", "BatchMode=yes", "IdentityAgent=none"):
        assert f"-o{option} " in command
    assert "-oUserKnownHostsFile=/etc/itsm/known_hosts" in command


def test_importing_the_driver_needs_no_library() -> None:
    script = "import sys; sys.modules['libvirt'] = None; import test_environments.drivers.libvirt.driver"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_values_in_the_description_of_a_machine_cannot_leave_their_place(tmp_path: Path) -> None:
    libvirt = pytest.importorskip("libvirt")
    of = Provenance(HOSTILE, "ENV-1", HOSTILE, "2026")
    uuid = "11111111-2222-3333-4444-555555555555"
    machine = Machine(uuid, "env-1", uuid, of, (Disk(tmp_path / HOSTILE),), tmp_path / "console", 64)
    hypervisor = libvirt.open("test:///default")
    try:
        found = hypervisor.defineXMLFlags(describe(machine).replace("'qemu'", "'test'").replace('"qemu"', '"test"'), 0)
        metadata = found.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "urn:itsm-portal:test-environments")
        assert read_provenance(metadata) == (uuid, of)
    finally:
        hypervisor.close()


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", "a/../../b", "", "a\nb", "a\0b"])
def test_no_recipe_leads_out_of_the_copy(path: str) -> None:
    for recipe in (Recipe("x", remove=(path,)), Recipe("x", write={path: ""}), Recipe("x", disable=(path,))):
        with pytest.raises(errors.Unsupported, match="leads out"):
            orders.neutralise([recipe])


def test_a_copy_keeps_only_what_leads_nowhere_of_the_settings_of_its_ci() -> None:
    agent = {
        "url": "https://production.example.org", "controller_id": "till-7", "client_certificate": "c.pem",
        "proxy": "http://proxy.example.org", "root": "/srv/till", "hooks": {"pre": {"command": ["true"]}},
    }  # fmt: skip
    delivery = Delivery("https://portal.example.org", "copy-1", "secret", {"tenant": "T", "root": "elsewhere"})
    order = orders.identity(delivery, delivery.portal_url, agent, {"billing": "0.9"}, hosts="")
    text = order["files/etc/update-agent/agent.json"].decode()
    assert "production" not in text
    assert "proxy" not in text
    assert "client_certificate" not in text
    for word in ("copy-1", '"tenant": "T"', '"root": "/srv/till"', '"hooks"'):
        assert word in text
    assert b"srv/till/.agent/state.json\n" in order["remove"]
    assert order["current"] == b"billing 0.9\n"


def test_a_name_stays_and_only_the_loopback_is_called_otherwise() -> None:
    assert url_inside("http://127.0.0.1:8000/x") == ("http://10.0.2.2:8000/x", "")
    url = "https://portal.example.org"
    assert url_inside(url) == (url, "10.0.2.2 portal.example.org # test environment\n")


def test_a_report_is_data_and_nothing_in_it_is_believed() -> None:
    lines = [
        "changed etc/x", "product billing 1.0", "version billing 1.0", "version billing ../../etc", "product ../x 1.0",
        "version a b c", "agent not base64", "system " + "x" * 900, "nonsense", "reached 10.0.2.2 80", "closed h 1",
    ]  # fmt: skip
    report = parse_report("\n".join(lines))
    assert (report.baseline, report.versions) == ({"billing": "1.0"}, {"billing": ("1.0",)})
    assert (report.changed, report.agent, len(report.system)) == (("etc/x",), {}, 200)
    assert report.reached == {"10.0.2.2 80": True, "h 1": False}
    assert parse_report("version a b\n" * 100_000).versions.keys() == {"a"}


def test_the_same_parts_give_the_same_first_file_system() -> None:
    def packed(*names: str) -> bytes:
        system = Initramfs()
        for name in names:
            system.file(name, b"shell", mode=0o755)
        system.link("bin/ls", "sh")
        system.device("dev/console", 5, 1)
        return system.packed()

    assert packed("bin/sh", "init") == packed("init", "bin/sh")


@pytest.mark.parametrize(
    ("noted", "now", "made"),
    [
        ({"uri": "qemu:///embed"}, "qemu:///system", "qemu:///embed"),
        ({}, "qemu+ssh://root@example.org/system", "qemu:///embed"),
        ({"uri": "qemu:///session"}, "qemu:///embed", "qemu:///session"),
        ({"uri": "qemu:///system?socket=/a"}, "qemu:///system?socket=/b", "qemu:///system?socket=/a"),
    ],
)
def test_an_environment_of_another_hypervisor_is_refused(tmp_path: Path, noted, now: str, made: str) -> None:
    driver = Libvirt(tmp_path, portal="x", options={"uri": now}, say=print)
    environment, bound = uuid4(), Bound(5)
    folder = tmp_path / "environments" / str(environment)
    folder.mkdir(parents=True)
    write_about(folder, {**noted, "network": "isolated", "has_identity": True, "portal_url": "http://127.0.0.1:8000"})
    delivery = Delivery("http://127.0.0.1:8000", "copy-1", "token")
    order = CreateOrder(
        environment, uuid4(), "a" * 64, Provenance("x", "ENV-1", "till", "2026"), network=NetworkMode.NONE
    )
    for verb in (
        lambda: driver.create(order, bound),
        lambda: driver.stop(environment, bound, grace_seconds=0),
        lambda: driver.start(environment, bound),
        lambda: driver.probe(environment, bound),
        lambda: driver.deliver(environment, delivery, bound),
        lambda: driver.snapshot(environment, uuid4(), bound),
        lambda: driver.revert(environment, None, bound),
        lambda: driver.destroy(environment, bound),
    ):
        with pytest.raises(
            errors.Unsupported, match=f"made under {re.escape(made)}, .* is {re.escape(now)} now. Set it back"
        ):
            verb()
    assert folder.exists()
    seen = driver.observe(environment, bound)
    assert (seen.power, "Set it back" in seen.why) == (Power.UNKNOWN, True)


def test_another_key_leads_to_the_same_hypervisor() -> None:
    where = "qemu+ssh://root@example.org/system"
    with_keys = read_uri(f"{where}?keyfile=/etc/itsm/key&known_hosts=/etc/itsm/known_hosts")
    assert with_keys.identity == read_uri(where).identity == where
    with_keys.check_made_under(where)
