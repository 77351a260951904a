"""Test environments as copies of files, each with an agent of its own on the machine of the runner.

    images/<uuid>/root/          what was copied from the source; never changed again
    environments/<uuid>/root/    a copy of an image: what the agent of the copy manages
                       /agent.json, token (0600), agent.log
                       /snapshots/<uuid>/
    <either>/about.json          provenance and facts

A folder is complete or absent (see `store.py`).
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from test_environments.drivers.bound import Bound
from test_environments.drivers.errors import Conflict, Failed, NotFound, SourceChanged, Unsupported
from test_environments.drivers.file_copy.agents import Agents, command, end_processes_in, last_lines
from test_environments.drivers.file_copy.capture import capture as read_folder
from test_environments.drivers.file_copy.copying import checksum, copy_source, remove_tree
from test_environments.drivers.file_copy.neutralising import neutralise
from test_environments.drivers.interface import (
    Capabilities,
    CaptureOrder,
    Clone,
    Consistency,
    Conversion,
    CreateOrder,
    Delivery,
    Driver,
    Evidence,
    Image,
    Kind,
    NetworkMode,
    Observation,
    Owned,
    Power,
    Provenance,
    Resources,
    Started,
    StoppedHow,
)
from test_environments.drivers.store import Store
from test_environments.drivers.texts import Text as _
from test_environments.failpoint import reach

_TRIES = 3
_OPTIONS = frozenset({"sources", "agent"})


class FileCopy(Driver):
    """Options: `sources` (the folder below which sources lie), `agent` (an agent built as one file, or empty)."""

    name = "file_copy"

    def __init__(
        self, work_folder: Path, *, portal: str, options: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        if unknown := sorted(set(options) - _OPTIONS):
            raise Unsupported(_("The driver file_copy knows no option %(unknown)s.", unknown=", ".join(unknown)))
        self._portal = portal
        self._sources = Path(options.get("sources", work_folder))
        self._work_folder = work_folder
        self._images = Store(work_folder / "images")
        self._environments = Store(work_folder / "environments")
        self._agents = Agents(command(str(options.get("agent", ""))), say)

    def open(self, bound: Bound) -> None:
        for key in self._environments.all():
            end_processes_in(self._environments.path(key))

    def close(self) -> None:
        self._agents.close()

    def capabilities(self, bound: Bound) -> Capabilities:
        with _plain_errors():
            self._work_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = shutil.disk_usage(self._work_folder).free
        return Capabilities(
            kinds=frozenset({Kind.FILES}),
            methods=frozenset({"folder"}),
            clones=frozenset({Clone.FULL}),
            networks=frozenset({NetworkMode.HOST}),
            conversions=frozenset({Conversion.KEEP}),
            evidence=Evidence.FILE_COPY,
            has_snapshots=True,
            free=Resources(memory_mb=-1, disk_growth_mb=free // 1_000_000),
        )

    def capture(self, order: CaptureOrder, bound: Bound) -> Image:
        if order.kind is not Kind.FILES or order.method != "folder":
            raise Unsupported(
                _(
                    "The driver file_copy takes folders, not %(kind)s by %(method)s.",
                    kind=order.kind,
                    method=order.method,
                )
            )
        if order.conversion is not Conversion.KEEP:
            raise Unsupported(_("Files have no drivers that could be adapted."))
        if self._images.has(order.image):
            return _image_of(order.image, self._about(self._images, order.image))
        for attempt in range(1, _TRIES + 1):
            try:
                with _plain_errors():
                    return self._capture(order, bound)
            except SourceChanged:
                if attempt == _TRIES:
                    raise
        raise AssertionError

    def _capture(self, order: CaptureOrder, bound: Bound) -> Image:
        found = read_folder(self._sources, order.location)
        reach("captured")
        new = self._images.begin(order.image)
        try:
            read = copy_source(self._sources, found, new / "root", running=found.baseline, check=bound.check)
            if order.expected_sha256 and order.expected_sha256 != read:
                raise Failed(
                    _(
                        "The source has the checksum %(found)s, not the expected %(expected)s.",
                        found=read,
                        expected=order.expected_sha256,
                    )
                )
            masked = neutralise(new / "root", order.masking)
            image = Image(
                image=order.image,
                format="tree",
                source_sha256=read,
                image_sha256=checksum(new, "root", bound.check) if masked else read,
                source_bytes=found.bytes,
                image_bytes=_bytes_of(new / "root"),
                consistency=Consistency.COLD,  # copied again until nothing had changed meanwhile
                baseline=found.baseline,
                versions=found.versions,
                masked=masked,
            )
            facts = {k: v for k, v in dataclasses.asdict(image).items() if k != "image"}
            _write_about(new, order.provenance, facts)
            self._images.finish(order.image)
        except BaseException:
            self._images.give_up(order.image)
            raise
        return image

    def delete_image(self, image: UUID, bound: Bound) -> None:
        for key in self._environments.all():
            if self._environments.has(key) and self._about(self._environments, key)["image"] == str(image):
                raise Conflict(_("The environment %(key)s was made from this image; destroy it first.", key=key))
        with _plain_errors():
            self._images.remove(image, bound.check)

    def create(self, order: CreateOrder, bound: Bound) -> None:
        if order.clone is not Clone.FULL or order.network is not NetworkMode.HOST or order.accelerator:
            raise Unsupported(_("The driver file_copy makes full copies on the host's own network, without a machine."))
        if not self._images.has(order.image):
            raise NotFound(_("The image is not there; capture it again."))
        if self._agents.process_of(order.environment) is not None:
            raise Conflict(_("It runs; stop it first."))
        about = self._about(self._images, order.image)
        if about["image_sha256"] != order.image_sha256:
            raise Conflict(_("The image is another one than the portal knows; capture it again."))
        running = _running(about["baseline"], about["versions"], order.versions)
        with _plain_errors():
            new = self._environments.begin(order.environment)
            try:
                self._fill(new / "root", order.image, order.image_sha256, running, bound)
                facts = {"image": str(order.image), "image_sha256": order.image_sha256, "running": running}
                _write_about(new, order.provenance, facts)
                self._environments.finish(order.environment)
            except BaseException:
                self._environments.give_up(order.environment)
                raise

    def _fill(self, root: Path, image: UUID, image_sha256: str, running: Mapping[str, str], bound: Bound) -> None:
        """Copies the image into the new folder `root`, and sees that it is still what was taken."""
        found = read_folder(self._images.path(image), "root")
        if copy_source(self._images.path(image), found, root, running=running, check=bound.check) != image_sha256:
            raise Failed(_("The image was changed on the disk; capture it again."))

    def deliver(self, environment: UUID, delivery: Delivery, bound: Bound) -> tuple[str, ...]:
        folder = self._at_rest(environment)
        config = {
            **delivery.agent_config,
            "url": delivery.portal_url,
            "controller_id": delivery.agent_id,
            "token_file": "token",
            "root": "root",
        }
        with _plain_errors():
            changed = neutralise(folder / "root", delivery.neutralise)
            _write_private(folder / "agent.json", json.dumps(config, indent=2))
            reach("token_written")
            _write_private(folder / "token", f"{delivery.token}\n")
        return changed

    def start(self, environment: UUID, bound: Bound) -> Started:
        if not self._environments.has(environment):
            raise NotFound(_("The copy is not there; it has to be made again."))
        folder = self._environments.path(environment)
        if not (folder / "token").exists():
            raise Conflict(_("The copy has no identity yet."))
        with _plain_errors():
            self._agents.start(environment, folder, bound)
        return Started(Power.RUNNING, Evidence.FILE_COPY)

    def stop(self, environment: UUID, bound: Bound, *, grace_seconds: float) -> StoppedHow:
        return self._agents.stop(environment, self._environments.path(environment), bound, grace_seconds=grace_seconds)

    def observe(self, environment: UUID, bound: Bound) -> Observation:
        if not self._environments.has(environment):
            return Observation(Power.ABSENT)
        process = self._agents.process_of(environment)
        if process is None:
            return Observation(Power.OFF)
        if process.poll() is None:
            return Observation(Power.RUNNING, process=process.pid, evidence=Evidence.FILE_COPY)
        log = last_lines(self._environments.path(environment) / "agent.log")
        return Observation(
            Power.CRASHED,
            why=_("The copy's agent ended with %(code)s:\n%(log)s", code=process.returncode, log=log),
        )

    def snapshot(self, environment: UUID, snapshot: UUID, bound: Bound) -> None:
        folder = self._at_rest(environment)
        kept = folder / "snapshots" / str(snapshot)
        if kept.exists():
            return
        with _plain_errors():
            new = folder / "snapshots" / f".new-{snapshot}"
            remove_tree(new)
            _copy_tree(folder / "root", new, bound)
            os.rename(new, kept)

    def revert(self, environment: UUID, snapshot: UUID | None, bound: Bound) -> None:
        folder = self._at_rest(environment)
        about = self._about(self._environments, environment)
        with _plain_errors():
            (folder / "token").unlink(missing_ok=True)
            new = folder / ".new-root"
            remove_tree(new)
            if snapshot is None:
                self._fill(new, UUID(about["image"]), about["image_sha256"], about["running"], bound)
            else:
                if not (folder / "snapshots" / str(snapshot)).is_dir():
                    raise NotFound(_("There is no such snapshot of this copy."))
                _copy_tree(folder / "snapshots" / str(snapshot), new, bound)
            remove_tree(folder / "root", bound.check)
            os.rename(new, folder / "root")

    def destroy(self, environment: UUID, bound: Bound) -> None:
        reach("destroying")
        self._agents.stop(environment, self._environments.path(environment), bound, grace_seconds=0)
        with _plain_errors():
            self._environments.remove(environment, bound.check)
        reach("deleted")

    def list_owned(self, bound: Bound) -> list[Owned]:
        owned = []
        for what, store in (("image", self._images), ("environment", self._environments)):
            for key in store.all():
                provenance = _provenance(store.parts(key))
                if provenance is None or provenance.portal == self._portal:
                    owned.append(Owned(key, what, provenance))
        return owned

    def console(self, environment: UUID, *, max_bytes: int = 16384) -> str:
        return last_lines(self._environments.path(environment) / "agent.log", lines=200, max_bytes=max_bytes)

    def _at_rest(self, environment: UUID) -> Path:
        """The folder of a copy that does not run. Raises NotFound, Conflict."""
        if not self._environments.has(environment):
            raise NotFound(_("The copy is not there; it has to be made again."))
        process = self._agents.process_of(environment)
        if process is not None and process.poll() is None:
            raise Conflict(_("It runs; stop it first."))
        return self._environments.path(environment)

    def _about(self, store: Store, key: UUID) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((store.path(key) / "about.json").read_text())
        except (OSError, ValueError) as error:
            raise Failed(
                _("%(file)s cannot be read: %(error)s", file=store.path(key) / "about.json", error=error)
            ) from error
        return found


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What the disk refuses, as an error of drivers with the path."""
    try:
        yield
    except OSError as error:
        raise Failed(f"{error.strerror or error}: {error.filename or ''}") from error


def _running(baseline: Mapping[str, str], held: Mapping[str, list[str]], wanted: Mapping[str, str]) -> dict[str, str]:
    for product, label in wanted.items():
        if label not in held.get(product, ()):
            found = ", ".join(held.get(product, ())) or _("none")
            raise Unsupported(
                _(
                    "The source does not hold %(product)s %(label)s. Its versions: %(found)s.",
                    product=product,
                    label=label,
                    found=found,
                )
            )
    return {**baseline, **wanted}


def _image_of(key: UUID, about: dict[str, Any]) -> Image:
    known = {"said": "", **about}
    facts = {f.name: known[f.name] for f in dataclasses.fields(Image) if f.name != "image"}
    facts["versions"] = {product: tuple(labels) for product, labels in facts["versions"].items()}
    facts["masked"] = tuple(facts["masked"])
    return Image(**{**facts, "image": key, "consistency": Consistency(facts["consistency"])})


def _write_about(folder: Path, provenance: Provenance, facts: Mapping[str, Any]) -> None:
    about = {"provenance": dataclasses.asdict(provenance), **facts}
    (folder / "about.json").write_text(json.dumps(about, indent=2))


def _provenance(folders: list[Path]) -> Provenance | None:
    for folder in folders:
        try:
            return Provenance(**json.loads((folder / "about.json").read_text())["provenance"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _copy_tree(source: Path, target: Path, bound: Bound) -> None:
    def copy(one: str, other: str) -> None:
        bound.check()
        shutil.copy2(one, other, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


def _bytes_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _write_private(path: Path, text: str) -> None:
    """Writes a file for the runner's user only, in one step."""
    new = path.with_name(f".new-{path.name}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    os.rename(new, path)
