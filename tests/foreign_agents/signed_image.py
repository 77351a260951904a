"""SWUpdate images (`.swu`), built and signed as a vendor would: a cpio archive with a description of its content."""

import hashlib
import subprocess
from pathlib import Path

HARDWARE, REVISION = "till", "1.0"

_DESCRIPTION = """
software = {{
    version = "{label}";
    hardware-compatibility: [ "{revision}" ];
    files: ({{ filename = "content"; type = "rawfile"; path = "{path}"; sha256 = "{sha256}"; }});
    {scripts}
}}
"""
_SCRIPT = 'scripts: ({{ filename = "check"; type = "postinstall"; sha256 = "{sha256}"; }});'


class Signer:
    """Somebody with a key and a certificate of his own, both in `folder`; the certificate says who is to be trusted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Vendor of tills",
            "-addext", "extendedKeyUsage=emailProtection", "-keyout", self.key, "-out", self.certificate,
        )  # fmt: skip

    def image(self, content: bytes, *, label: str, path: Path, check: bytes | None = None) -> bytes:
        """An image that puts `content` into the file `path` of the device and then runs the script `check`."""
        files = {"content": content} | ({"check": check} if check is not None else {})
        sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        scripts = _SCRIPT.format(sha256=sha256["check"]) if check is not None else ""
        description = _DESCRIPTION.format(
            label=label, revision=REVISION, path=path, sha256=sha256["content"], scripts=scripts
        ).encode()
        signature = _openssl(
            "cms", "-sign", "-binary", "-nosmimecap", "-outform", "DER", "-signer", self.certificate,
            "-inkey", self.key, given=description,
        )  # fmt: skip
        return _cpio({"sw-description": description, "sw-description.sig": signature, **files})


def _openssl(*arguments: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True, timeout=60).stdout


def _cpio(files: dict[str, bytes]) -> bytes:
    """An archive in the format that `cpio -H crc` writes; SWUpdate reads the files in this order."""
    archive = bytearray()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        fields = [number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF]
        archive += b"070702" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + data
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)
