"""Private keys as files: PKCS#8, encrypted with a passphrase, readable only by their owner."""

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from signing.envelope import public_of

MIN_PASSPHRASE = 12


class KeyFileError(Exception):
    """A key file that cannot be made or used; the text says what to do."""


def make(path: Path, passphrase: str) -> str:
    """Writes a new private key and, beside it, the public one (`.pub`, hex). Returns the public key.

    Never overwrites a file. Raises KeyFileError.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise KeyFileError(f"The passphrase needs at least {MIN_PASSPHRASE} characters.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists; a key is never overwritten.") from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    public = public_of(key)
    Path(f"{path}.pub").write_text(public + "\n")
    return public


def load(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """Reads a private key. Raises KeyFileError when others may read the file, or the passphrase is wrong."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyFileError(f"{path} can be read by others (mode {mode:o}). Make it private: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), passphrase.encode())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}.") from error
    except TypeError:
        raise KeyFileError(f"{path} is not encrypted; make a new key with `keygen`.") from None
    except ValueError as error:
        raise KeyFileError(f"{path} cannot be opened: the passphrase is wrong, or it is no key.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 key.")
    return key


def public(text: str) -> str:
    """A public key given as 64 hex digits or as the name of a `.pub` file."""
    path = Path(text)
    return path.read_text().strip() if path.is_file() else text
