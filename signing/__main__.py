"""The key holder's tool. It runs where the private keys are, never on the portal's servers, and needs no network.

python -m signing keygen | keys | sign | release | rollback | show
"""

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from signing import keyfile
from signing.documents import Document, KeySet, Point, Release, ReleaseKey, Rollback, payload_of, read, type_of
from signing.envelope import Envelope, Untrusted, compact, key_id, load_json, sign
from signing.request import compare, describe, measure, read_request


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (Untrusted, keyfile.KeyFileError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m signing", description="signs what the portal distributes")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--passphrase-file", type=Path, help="instead of asking for the passphrase")
        return added

    def signs(added: argparse.ArgumentParser, days: int) -> None:
        added.add_argument("--key", type=Path, action="append", required=True, help="private key; may be repeated")
        added.add_argument("--out", type=Path, required=True, help="where the envelopes go")
        added.add_argument("--days", type=int, default=days, help=f"good for so many days ({days})")

    added = command("keygen", keygen, "makes a new private key, encrypted with a passphrase")
    added.add_argument("file", type=Path)

    added = command("keys", keys, "signs a new key set with root keys")
    signs(added, 365)
    added.add_argument("--previous", type=Path, help="the key set that it follows; none: the first one")
    added.add_argument("--root", action="append", default=[], help="a further root key (hex or .pub)")
    added.add_argument("--drop-root", action="append", default=[], help="a root key that no longer counts")
    added.add_argument("--release-key", action="append", default=[], help="a further release key (hex or .pub)")
    added.add_argument("--retire", action="append", default=[], help="a release key that signs nothing new")
    added.add_argument("--revoke", action="append", default=[], help="a key that counts for nothing, ever")
    added.add_argument("--threshold", type=int, help="how many root keys sign a key set")

    added = command("sign", sign_request, "signs what the portal asks for in a request file")
    signs(added, 365)
    added.add_argument("request", type=Path)
    added.add_argument("--rollback-days", type=int, default=90, help="rollback decisions: good for so many days (90)")
    added.add_argument("--files", type=Path, help="folder with your own build, compared with the request")
    added.add_argument("--yes", action="store_true", help="do not ask")

    added = command("release", release, "signs the manifest of a version, from the files themselves")
    signs(added, 365)
    for name in ("--product", "--version"):
        added.add_argument(name, required=True)
    added.add_argument("--counter", type=int, required=True)
    added.add_argument("files", type=Path, nargs="+")

    added = command("rollback", rollback, "signs the decision that CIs may go back from one version to another")
    signs(added, 90)
    added.add_argument("--product", required=True)
    added.add_argument("--from", dest="from_", required=True, metavar="VERSION:COUNTER")
    added.add_argument("--to", required=True, metavar="VERSION:COUNTER", help="or the word removal")

    added = command("show", show, "shows what envelopes say and by which keys they claim to be signed")
    added.add_argument("file", type=Path)
    return parser


def keygen(options: argparse.Namespace) -> int:
    passphrase = _passphrase(options, options.file, is_new=True)
    public = keyfile.make(options.file, passphrase)
    print(f"private  {options.file}\npublic   {public}\nid       {key_id(public)}")
    return 0


def keys(options: argparse.Namespace) -> int:
    now = _now()
    before = _key_set(options.previous) if options.previous else None
    new, retired = _publics(options.release_key), set(_publics(options.retire))
    kept = [
        ReleaseKey(k.key, k.valid_from, now) if k.key in retired else k
        for k in (before.release_keys if before else ())
        if k.key not in new
    ]
    dropped = set(_publics(options.drop_root))
    roots = [root for root in (before.roots if before else ()) if root not in dropped]
    roots += [root for root in _publics(options.root) if root not in roots]
    revoked = (before.revoked if before else frozenset()) | {key_id(key) for key in _publics(options.revoke)}
    threshold = options.threshold or (before.threshold if before else 1)
    made = KeySet(
        number=before.number + 1 if before else 1,
        issued=now,
        expires=now + timedelta(days=options.days),
        threshold=threshold,
        roots=tuple(roots),
        # From the same moment as the set, so that what is signed in its first second counts.
        release_keys=(*kept, *(ReleaseKey(key, now, None) for key in new)),
        revoked=revoked,
    )
    KeySet.from_json(made.to_json())
    print(f"key set {made.number}: {len(roots)} root keys (threshold {threshold}), until {made.expires:%Y-%m-%d}")
    for release_key in made.release_keys:
        state = "revoked" if key_id(release_key.key) in revoked else "retired" if release_key.valid_until else "signs"
        print(f"  {state:8} {release_key.key}")
    return _write([made], options)


def sign_request(options: argparse.Namespace) -> int:
    documents = read_request(options.request, now=_now(), days=options.days, rollback_days=options.rollback_days)
    if not documents:
        print("Nothing has to be signed.")
        return 0
    differences = []
    for document in documents:
        print(describe(document))
        if options.files and isinstance(document, Release):
            differences += compare(document, options.files)
    if differences:
        print("Not signed. " + "; ".join(differences), file=sys.stderr)
        return 1
    if not options.yes and input(f"Sign these {len(documents)} documents? [y/N] ").strip().lower() != "y":
        print("Nothing was signed.")
        return 1
    return _write(documents, options)


def release(options: argparse.Namespace) -> int:
    now = _now()
    files = tuple(sorted(measure(path) for path in options.files))
    made = Release(options.product, options.version, options.counter, now, now + timedelta(days=options.days), files)
    print(describe(Release.from_json(made.to_json())))
    return _write([made], options)


def rollback(options: argparse.Namespace) -> int:
    now = _now()
    target = None if options.to == "removal" else _point(options.to)
    made = Rollback(options.product, _point(options.from_), target, now, now + timedelta(days=options.days))
    print(describe(Rollback.from_json(made.to_json())))
    return _write([made], options)


def show(options: argparse.Namespace) -> int:
    for envelope in _envelopes(options.file):
        document = read(envelope)
        print(compact(document.to_json()) if isinstance(document, KeySet) else describe(document))
        for keyid, _signature in envelope.signatures:
            print(f"          signed by {keyid}")
    return 0


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _point(text: str) -> Point:
    version, _colon, counter = text.rpartition(":")
    return Point.from_json({"version": version, "counter": int(counter) if counter.isdecimal() else 0})


def _publics(texts: Sequence[str]) -> list[str]:
    found = [keyfile.public(text) for text in texts]
    for key in found:
        key_id(key)
    return found


def _envelopes(path: Path) -> list[Envelope]:
    data = load_json(path.read_bytes())
    listed = data["envelopes"] if isinstance(data, dict) and isinstance(data.get("envelopes"), list) else [data]
    return [Envelope.from_json(entry) for entry in listed]


def _key_set(path: Path) -> KeySet:
    found = [d for d in (read(envelope) for envelope in _envelopes(path)) if isinstance(d, KeySet)]
    if not found:
        raise Untrusted("malformed", f"{path} holds no key set.")
    return max(found, key=lambda key_set: key_set.number)


def _passphrase(options: argparse.Namespace, path: Path, *, is_new: bool = False) -> str:
    if options.passphrase_file:
        text: str = options.passphrase_file.read_text().rstrip("\n")
        return text
    typed = getpass.getpass(f"Passphrase of {path}: ")
    if is_new and typed != getpass.getpass("Once more: "):
        raise keyfile.KeyFileError("The two differ.")
    return typed


def _private(options: argparse.Namespace) -> list[Ed25519PrivateKey]:
    return [keyfile.load(path, _passphrase(options, path)) for path in options.key]


def _write(documents: Sequence[Document], options: argparse.Namespace) -> int:
    private = _private(options)
    envelopes = [sign(type_of(document), payload_of(document), private) for document in documents]
    options.out.write_text(compact({"envelopes": [envelope.to_json() for envelope in envelopes]}) + "\n")
    print(f"{len(envelopes)} signed → {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
