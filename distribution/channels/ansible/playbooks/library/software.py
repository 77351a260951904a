#!/usr/bin/python3
"""Ansible module: the software folders of a CI. Runs on the host, with Python 3.8 or newer and nothing else.

`<root>/<product>/versions/<version>` is complete or not there, `<root>/<product>/current` is a link to one of them:
the layout of the update agent. States: `prepared` (says what has to be copied), `unpacked` (checks and unpacks what
was copied), `switched` (points `current` to the versions, or away), `healthy` (runs the packages' own checks), `read`
(says what runs; writes nothing). A failure carries `code` and `msg`.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import zlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
MAX_MEMBERS = 100000
MAX_BYTES = 4 * 1024**3
MAX_RATIO = 200
RATIO_FREE_BYTES = 16 * 1024**2
MAX_TEXT = 64 * 1024
BLOCK = 1024 * 1024


class Refused(Exception):
    """What may not or could not be done; `code` is for programs."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# --- Folders --------------------------------------------------------------------------------------------------------
def versions_of(root, product):
    return os.path.join(root, product, "versions")


def digest_of(folder):
    """The sha256 of the archive that a version folder came from; None: not complete, or put there by hand."""
    try:
        with open(os.path.join(folder, ".complete"), "rb") as file:
            return json.loads(file.read(MAX_TEXT)).get("sha256")
    except (OSError, ValueError, AttributeError):
        return None


def current(root, product):
    """The label that runs; None: none. Refuses a `current` that is not a link into the versions."""
    link = os.path.join(root, product, "current")
    if not os.path.lexists(link):
        return None
    folder, _, name = (os.readlink(link) if os.path.islink(link) else "").rpartition("/")
    if folder != "versions" or not SEGMENT.match(name):
        raise Refused("bad_layout", f"{product}/current is not a link into versions")
    return name if os.path.isdir(os.path.join(versions_of(root, product), name)) else None


def sync(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def point(root, product, label):
    """Makes `current` name the version, in one step; None takes it away."""
    folder = os.path.join(root, product)
    link = os.path.join(folder, "current")
    if label is None:
        if os.path.islink(link):
            os.unlink(link)
            sync(folder)
        return
    if not os.path.isdir(os.path.join(folder, "versions", label)):
        raise Refused("folder_missing", f"the folder of {product} {label} is gone")
    temporary = os.path.join(folder, ".current.tmp")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(f"versions/{label}", temporary)
    os.replace(temporary, link)
    sync(folder)


# --- Archives -------------------------------------------------------------------------------------------------------
class Bounded:
    """Reads what unpacks, up to a limit, whatever the headers say."""

    def __init__(self, stream, limit):
        self.stream, self.left = stream, limit

    def read(self, size):
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise Refused("archive_too_big", "the archive unpacks to more than is allowed")
        return block


class PlainInfo(tarfile.TarInfo):
    """Refuses extension headers that would be loaded into memory as a whole."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        info = super().frombuf(buf, encoding, errors)
        plain = (*tarfile.REGULAR_TYPES, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
        if info.type not in plain and info.size > 1024 * 1024:
            raise Refused("bad_archive", "an extension header is too big")
        return info


def parts_of(name, code="unsafe_path"):
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or "\0" in name or len(name) > 1024 or ".." in parts:
        raise Refused(code, repr(name[:200]))
    return parts


def make_folders(root, parts):
    path = root
    for part in parts:
        path = os.path.join(path, part)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            # A link to a folder is "there", too: writing through it is how archives escape.
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Refused("unsafe_path", "a member lies below something that is not a folder") from None


def check_link(target, depth):
    """A link may go up only in front, and not above the archive's root."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    if not target or target.startswith("/") or "\\" in target or ups > depth or ".." in parts[ups:]:
        raise Refused("unsafe_link", f"{target[:200]!r} leads out of the archive")


def extract(tar, member, root):
    parts = parts_of(member.name)
    if not parts and member.isdir():
        return
    if not parts or parts[0] == ".complete":
        raise Refused("unsafe_path", repr(member.name[:200]))
    make_folders(root, parts[:-1])
    path = os.path.join(root, *parts)
    try:
        if member.isdir():
            make_folders(root, parts)
        elif member.issym():
            check_link(member.linkname, len(parts) - 1)
            os.symlink(member.linkname, path)
        elif member.islnk():
            source = os.path.join(root, *parts_of(member.linkname, "unsafe_link"))
            within = os.path.realpath(os.path.dirname(source)) == os.path.dirname(source)
            if not within or not os.path.lexists(source) or not stat.S_ISREG(os.lstat(source).st_mode):
                raise Refused("unsafe_link", f"{member.linkname[:200]!r} is not an unpacked file")
            os.link(source, path)
        elif member.isreg() and not member.issparse():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file, BLOCK)
                file.flush()
                os.fchmod(file.fileno(), (member.mode & 0o755) | 0o600)
                os.fsync(file.fileno())
        else:
            raise Refused("unsafe_member", f"{member.name[:200]!r} is not a file, folder or link")
    except FileExistsError:
        raise Refused("bad_archive", f"{member.name[:200]!r} is there twice") from None


def unpack(archive, target):
    limit = min(MAX_BYTES, max(RATIO_FREE_BYTES, os.path.getsize(archive) * MAX_RATIO))
    os.mkdir(target, 0o755)
    try:
        with gzip.open(archive, "rb") as stream:
            reader: Any = Bounded(stream, limit)
            with tarfile.open(fileobj=reader, mode="r|", tarinfo=PlainInfo) as tar:
                for count, member in enumerate(iter(tar.next, None), 1):
                    if count > MAX_MEMBERS:
                        raise Refused("too_many_members", f"more than {MAX_MEMBERS} members")
                    extract(tar, member, target)
                    tar.members.clear()  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError, zlib.error, ValueError, gzip.BadGzipFile) as error:
        raise Refused("bad_archive", f"not a sound tar.gz ({type(error).__name__})") from None


def sha256_of(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            found.update(block)
    return found.hexdigest()


def software_json(folder, product, version):
    path = os.path.join(folder, "software.json")
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or os.path.getsize(path) > MAX_TEXT:
            raise Refused("bad_software_json", "it is not a small plain file")
        with open(path, "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise Refused("bad_software_json", type(error).__name__) from None
    if not isinstance(found, dict) or (found.get("product"), found.get("version")) != (product, version):
        raise Refused("wrong_product", f"the archive is not {product} {version}")
    return found


# --- States ---------------------------------------------------------------------------------------------------------
def is_there(root, item):
    folder = os.path.join(versions_of(root, item["product"]), item["version"])
    return digest_of(folder) == item["sha256"]


def prepared(root, items):
    """Checks the place, clears what an earlier run left, says what has to be copied and what runs."""
    previous = [{"product": item["product"], "version": current(root, item["product"])} for item in items]
    incoming = os.path.join(root, ".push")
    shutil.rmtree(incoming, ignore_errors=True)
    os.mkdir(incoming, 0o700)
    missing = [item["product"] for item in items if item["version"] is not None and not is_there(root, item)]
    return {"previous": previous, "missing": missing}


def unpacked(root, items):
    for item in items:
        if item["version"] is None or is_there(root, item):
            continue
        product, version = item["product"], item["version"]
        archive = os.path.join(root, ".push", item["sha256"] + ".tar.gz")
        if sha256_of(archive) != item["sha256"]:
            raise Refused("wrong_hash", f"{product} {version} is not the announced file")
        folder = versions_of(root, product)
        os.makedirs(folder, 0o755, exist_ok=True)
        new, final = os.path.join(folder, ".new-" + version), os.path.join(folder, version)
        if os.path.lexists(final) and current(root, product) == version:
            raise Refused("version_differs", f"{product} {version} runs already, but from another file")
        shutil.rmtree(new, ignore_errors=True)
        try:
            unpack(archive, new)
            software_json(new, product, version)
            with open(os.path.join(new, ".complete"), "w") as file:
                json.dump({"sha256": item["sha256"]}, file)
                file.flush()
                os.fsync(file.fileno())
            for parent, _folders, _files in os.walk(new):
                sync(parent)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(new, final)
            sync(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(os.path.join(root, ".push"), ignore_errors=True)
    return {"changed": True}


def switched(root, items):
    for item in items:
        if current(root, item["product"]) != item["version"]:
            point(root, item["product"], item["version"])
    return {"changed": True}


def check_health(root, item):
    folder = os.path.join(root, item["product"], "current")
    health = software_json(folder, item["product"], item["version"]).get("health")
    if health is None:
        return
    command, timeout = health["command"], float(health.get("timeout_seconds", 30))
    if not command or not all(isinstance(word, str) and word for word in command) or not 0 < timeout <= 3600:
        raise Refused("bad_software_json", "health needs a command and a timeout of at most an hour")
    if command[0] in ("python", "python3"):
        command = [sys.executable, *command[1:]]
    names = {"AGENT_CI_ROOT": root, "AGENT_PRODUCT": item["product"], "AGENT_VERSION": item["version"]}
    output = open(os.path.join("/dev", "null"), "rb")  # noqa: SIM115
    process = subprocess.Popen(
        command, cwd=folder, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **names), stdin=output,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=timeout)
        reason = f"exit status {process.returncode}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        text, reason = b"", f"no answer within {timeout:g} s"
    finally:
        output.close()
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if reason:
        tail = text[-2000:].decode("utf-8", "replace").strip()
        raise Refused("health_check_failed", "{} {}: {}\n{}".format(item["product"], item["version"], reason, tail))


def healthy(root, items):
    for item in items:
        if item["version"] is not None:
            try:
                check_health(root, item)
            except (KeyError, TypeError, OSError) as error:
                raise Refused("health_check_failed", f"cannot start ({error})") from None
    return {}


def read(root, items, with_health):
    """What runs. With `with_health`, also whether the versions wanted are healthy, if they run."""
    running = {item["product"]: current(root, item["product"]) for item in items}
    found = {"running": running, "health": ""}
    if with_health and all(running[item["product"]] == item["version"] for item in items):
        try:
            healthy(root, items)
        except Refused as refusal:
            found["health"] = f"{refusal.code}: {refusal}"
    return found


def checked(items):
    for item in items:
        names = [item["product"], *([item["version"]] if item["version"] is not None else [])]
        if not all(isinstance(name, str) and SEGMENT.match(name) for name in names):
            raise Refused("bad_name", "a product or version is not a plain name")
        if not re.match(r"[0-9a-f]{64}\Z", item.get("sha256") or "0" * 64):
            raise Refused("missing_sha256", "{} has no sha256".format(item["product"]))
    return items


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"required": True, "choices": ["prepared", "unpacked", "switched", "healthy", "read"]},
            "root": {"required": True, "type": "path"},
            "items": {"required": True, "type": "list", "elements": "dict"},
            "check_health": {"default": False, "type": "bool"},
        }
    )
    root, state = module.params["root"], module.params["state"]
    try:
        items = checked(module.params["items"])
        if not os.path.isdir(root):
            raise Refused("no_folder", f"{root} is not there; create it for the user that installs")
        if state == "read":
            result = read(root, items, module.params["check_health"])
        else:
            result = {"prepared": prepared, "unpacked": unpacked, "switched": switched, "healthy": healthy}[state](
                root, items
            )
    except Refused as refusal:
        module.fail_json(msg=str(refusal), code=refusal.code)
    except OSError as error:
        code = "disk_full" if error.errno in (28, 122) else "io_error"
        module.fail_json(msg=f"{error.strerror}: {error.filename}", code=code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
