"""TLS with its own authority, client certificates, and proxies; nothing of it is ever dropped silently."""

import base64
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.agent.ci import Ci, software
from tests.agent.ddi_server import DdiServer


class Authority:
    """A certificate authority below ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._sign(self.name, self.key, is_authority=True))

    def issue(self, name: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Files with a certificate for ``name`` at 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(subject, key, is_authority=False))
        kind = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, kind))
        return certificate, key_file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        usage = dict.fromkeys(("data_encipherment", "content_commitment", "encipher_only", "decipher_only"), False)
        usage |= {"digital_signature": True, "key_encipherment": False, "key_agreement": False}
        usage |= {"key_cert_sign": is_authority, "crl_sign": is_authority}
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(local, critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def https(authority: Authority) -> Iterator[DdiServer]:
    server = DdiServer()
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(*authority.issue("server"))
    server.start()
    yield server
    server.stop()


def is_updated(ci: Ci, server: DdiServer) -> bool:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    return [result for result, _ in action.closes] == ["success"] and ci.running() == "1.0"


def test_unknown_authority_is_refused_and_a_named_one_is_enough(
    https: DdiServer, authority: Authority, tmp_path: Path
) -> None:
    ci = Ci(tmp_path, https)
    assert not ci.cycle()
    assert https.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in ci.status()["problem"]

    ci.configure(ca_file=authority.file.name)

    assert is_updated(ci, https)


def test_authorities_of_the_system_are_the_default(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    ci = Ci(tmp_path, https)

    assert ci.once(SSL_CERT_FILE=str(authority.file)) == 0


def test_named_authority_replaces_those_of_the_system(
    https: DdiServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    ci = Ci(tmp_path, https, ca_file=Authority(tmp_path, "other").file.name)

    assert not ci.cycle()
    assert https.requests == []


def test_certificate_for_another_name_is_refused(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    ci = Ci(tmp_path, https, ca_file=authority.file.name, url=https.url.replace("127.0.0.1", "localhost"))

    assert not ci.cycle()
    assert https.requests == []
    assert "Hostname mismatch" in ci.status()["problem"]


def test_least_tls_version_is_kept(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    assert https.tls is not None
    https.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    ci = Ci(tmp_path, https, ca_file=authority.file.name, tls_min_version="1.3")
    assert not ci.cycle()
    assert https.requests == []

    ci.configure(tls_min_version="1.2")

    assert is_updated(ci, https)


def test_client_certificate_opens_the_door_and_may_be_renewed(
    https: DdiServer, authority: Authority, tmp_path: Path
) -> None:
    assert https.tls is not None
    https.tls.verify_mode = ssl.CERT_REQUIRED
    https.tls.load_verify_locations(authority.file)
    ci = Ci(tmp_path, https, ca_file=authority.file.name)
    assert not ci.cycle()

    Authority(tmp_path, "stranger").issue("device")
    ci.configure(client_certificate="device.crt", client_key="device.key")
    assert not ci.cycle()
    assert https.requests == []
    authority.issue("device")

    assert is_updated(ci, https)


def test_client_certificate_alone_needs_no_token(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    authority.issue("device")
    ci = Ci(tmp_path, https, ca_file=authority.file.name, client_certificate="device.crt", client_key="device.key")
    ci.leave_out("token_file")

    assert not ci.cycle()

    assert "authorization" not in https.requests[0][2]


def test_encrypted_key_is_refused_without_a_question(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    authority.issue("device", b"secret")
    ci = Ci(tmp_path, https, ca_file=authority.file.name, client_certificate="device.crt", client_key="device.key")

    process = ci.start("--once")

    assert "the key may not be encrypted" in process.communicate(timeout=30)[1].decode()
    assert process.returncode == 2


def test_download_is_not_sent_from_https_to_http(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    ci = Ci(tmp_path, https, ca_file=authority.file.name, download_give_up_seconds=0.1)
    plain = DdiServer().start()
    for _ in range(20):
        https.fault("GET", "/artifacts/", status=302, headers={"Location": f"{plain.url}/file"})
    action = https.offer(https.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    plain.stop()

    assert "redirected from https to http" in action.closes[0][1][0]
    assert plain.requests == []


def test_gateway_token_is_sent_under_its_own_name(ci: Ci, server: DdiServer) -> None:
    ci.configure(token_scheme="GatewayToken")
    ci.cycle()

    assert server.requests[0][2]["authorization"].startswith("GatewayToken ")


class Proxy(NamedTuple):
    """A forward proxy and the first lines and headers of what it was asked."""

    url: str
    heads: list[bytes]


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Forwards one request per connection, and tunnels for CONNECT; to loopback only."""
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=forward, args=(client,), daemon=True).start()

    def forward(client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            heads.append(head)
            method, target, _ = head.split(b" ", 2)
            place = target if method == b"CONNECT" else target.split(b"/")[2]
            host, _, port = place.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    server.sendall(head.replace(b"http://" + place, b"", 1))
                pump(client, server)

    threading.Thread(target=serve, daemon=True).start()
    yield Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}", heads)
    listener.close()


def pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for source in select.select([one, other], [], [], 30)[0] or [None]:
            data = source.recv(65536) if source else b""
            if not data:
                return
            # Later requests on a kept connection name the whole address, too.
            target = other if source is one else one
            target.sendall(_shortened(data) if source is one else data)


def _shortened(data: bytes) -> bytes:
    line, rest = data.partition(b"\r\n")[0], data.partition(b"\r\n")[2]
    if b" http://" not in line:
        return data
    method, target, version = line.split(b" ")
    return b" ".join((method, b"/" + target.split(b"/", 3)[3], version)) + b"\r\n" + rest


def test_plain_http_goes_through_the_proxy(ci: Ci, server: DdiServer) -> None:
    (ci.folder / "login").write_text("agent:secret\n")
    with proxy() as way:
        ci.configure(proxy=way.url, proxy_login_file="login")
        assert is_updated(ci, server)

    login = base64.b64encode(b"agent:secret")
    assert way.heads[0].startswith(b"PUT http://127.0.0.1:%d/DEFAULT/" % server.port)
    assert all(b"Proxy-Authorization: Basic " + login in head for head in way.heads)
    assert len(way.heads) == 2, "one for the API, one for the download"


def test_https_goes_through_a_tunnel(https: DdiServer, authority: Authority, tmp_path: Path) -> None:
    ci = Ci(tmp_path, https, ca_file=authority.file.name)
    with proxy() as way:
        ci.configure(proxy=way.url)
        assert is_updated(ci, https)

    assert way.heads
    assert all(head.startswith(b"CONNECT 127.0.0.1:%d HTTP/" % https.port) for head in way.heads)
    assert not any(b"TargetToken" in head for head in way.heads)


def test_host_without_proxy_is_reached_directly(ci: Ci, server: DdiServer) -> None:
    ci.configure(proxy="http://127.0.0.1:1", no_proxy=["example.org", "127.0.0.1"])

    assert is_updated(ci, server)


def test_missing_proxy_is_not_gone_around(ci: Ci, server: DdiServer) -> None:
    ci.configure(proxy="http://127.0.0.1:1")

    assert not ci.cycle()
    assert server.requests == []


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": "Mon, 23 Nov 2026 10:00:04 GMT", "Date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 4),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "9" * 30}, 3600),
    ],
)
def test_wish_of_the_server_is_read(ci: Ci, server: DdiServer, headers: dict[str, Any], least: float) -> None:
    from agent.config import load_config
    from agent.ddi import Client, Unreachable

    for _ in range(2):
        server.fault("GET", "ci-0001$", status=429, headers=headers)
    with pytest.raises(Unreachable) as error:
        Client(load_config(ci.config_file)).poll()

    assert (error.value.retry_after or 0) == least


def test_wish_of_the_server_holds_for_downloads_too(ci: Ci, server: DdiServer) -> None:
    server.fault("GET", "/artifacts/", status=503, headers={"Retry-After": "1"})
    started = datetime.datetime.now()

    assert is_updated(ci, server)

    assert datetime.datetime.now() - started >= datetime.timedelta(seconds=1)
