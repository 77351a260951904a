"""Checking Ed25519 signatures with what the device has: the package ``cryptography``, else ``openssl``.

Nothing here computes a signature or a curve: a back end either knows Ed25519 or is not used. Each proves
itself on known signatures before it is trusted, so that a tool that says yes to everything is noticed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

CRYPTOGRAPHY = "cryptography"
OPENSSL = "openssl"

# (raw public key of 32 bytes, message, signature of 64 bytes) -> whether the signature is good.
Verifier = Callable[[bytes, bytes, bytes], bool]

# RFC 8032, section 7.1, test 2.
_KNOWN_KEY = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
_KNOWN_MESSAGE = b"\x72"
_KNOWN_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# What stands before the raw key in the DER form that openssl reads (RFC 8410).
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")
_OPENSSL_SECONDS = 30


class NoVerifier(Exception):
    """This device has nothing that can check an Ed25519 signature."""


def find_verifier(choice: str) -> Verifier:
    """The first back end that works: ``choice`` names one, "auto" tries both. Raises NoVerifier."""
    backends: dict[str, Verifier] = {CRYPTOGRAPHY: _by_cryptography, OPENSSL: _by_openssl}
    problems = []
    for name, verifier in backends.items():
        if choice not in (name, "auto"):
            continue
        try:
            good = verifier(_KNOWN_KEY, _KNOWN_MESSAGE, _KNOWN_SIGNATURE)
            if good and not verifier(_KNOWN_KEY, b"another message", _KNOWN_SIGNATURE):
                return verifier
            problems.append(f"{name}: does not know Ed25519")
        except NoVerifier as error:
            problems.append(f"{name}: {error}")
    raise NoVerifier("; ".join(problems))


def _by_cryptography(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise NoVerifier(f"not installed ({error})") from None
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except UnsupportedAlgorithm as error:
        raise NoVerifier(f"its OpenSSL is too old ({error})") from None
    except (InvalidSignature, ValueError):
        return False
    return True


def _by_openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in message -sigfile signature"
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        folder = Path(name)
        (folder / "key").write_bytes(_DER_PREFIX + key)
        (folder / "message").write_bytes(message)
        (folder / "signature").write_bytes(signature)
        try:
            result = subprocess.run(
                command.split(),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_OPENSSL_SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired) as error:
            raise NoVerifier(f"cannot be run ({error})") from None
    return result.returncode == 0
