"""The verbs of the media library: products, versions, their files, withdrawal and removal."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import language
from software.models import Artifact, Product, Version, artifact_path, format_of
from software.storage import Received, discard, keep, receive
from tickets.exceptions import ConditionRefused, InvalidInput, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.services import validate

MANAGE = "software.manage_software"
# Addresses of the library's own pages.
RESERVED = frozenset({"new", "signatures", "components"})
_MANAGE_TEXT = gettext_lazy("change the media library")


def create_product(*, actor: Any, now: datetime, name: str, slug: str, description: str = "") -> Product:
    """A new product. Refuses a name or short name that another one has with `InvalidInput`."""
    check_permission(actor, MANAGE, str(_MANAGE_TEXT))
    product = Product(name=name, slug=slug, description=description)
    validate(product)
    if slug in RESERVED:
        raise InvalidInput(_("The portal uses this word itself. Choose another short name."), field="slug")
    if Product.objects.filter(name=name).exists():
        raise InvalidInput(_("Another product has this name. Choose another one."), field="name")
    if Product.objects.filter(slug=slug).exists():
        raise InvalidInput(_("Another product has this short name. Choose another one."), field="slug")
    product.save(force_insert=True)
    return product


def create_version(
    product: Product, *, actor: Any, now: datetime, label: str, notes: str = "", must_not_skip: bool = False
) -> Version:
    """A new version of the product, without a file yet. Refuses a label that the product has with `InvalidInput`.

    With `must_not_skip` no CI gets from an older version to a later one without it.
    """
    check_permission(actor, MANAGE, str(_MANAGE_TEXT))
    version = Version(
        product=product, label=label, notes=notes, must_not_skip=must_not_skip, created_by=actor, created_at=now
    )
    validate(version, exclude=("state", "order", "created_by"))
    if Version.objects.filter(product=product, label=label).exists():
        raise InvalidInput(
            _("%(product)s has a version %(label)s already. Choose another label.")
            % {"product": product, "label": label},
            field="label",
        )
    version.save(force_insert=True)
    return version


def store_artifact(
    version: Version,
    *,
    actor: Any,
    now: datetime,
    filename: str,
    stream: Any,
    sha256: str = "",
    format: str = "",
    more: bool = False,
) -> Artifact:
    """Stores a file of a version and makes the version ready, unless `more` files follow. `sha256` (hex) is what the
    sender expects, if known; `format` is told by the file's ending unless it is given.

    `stream` has `read(size)` or Django's `chunks()`. The same file under the same name again is no change;
    what a ready version consists of never changes otherwise (`ConditionRefused`). Other refusals as in
    `storage.receive`, and `InvalidInput` with code hash_mismatch.
    """
    check_permission(actor, MANAGE, str(_MANAGE_TEXT))
    check_may_store(version, actor=actor, now=now, filename=filename, format=format)
    received = receive(stream, now=now)
    try:
        if sha256 and sha256.strip().lower() != received.sha256:
            raise InvalidInput(
                _("The file's SHA-256 is %(found)s, not the one that was given. Upload the right file again.")
                % {"found": received.sha256},
                field="sha256",
                code="hash_mismatch",
            )
        return store_received(
            version, actor=actor, now=now, filename=filename, format=format, received=received, more=more
        )
    finally:
        discard(received)


def check_may_store(version: Version, *, actor: Any, now: datetime, filename: str, format: str = "") -> Artifact:
    """The artifact as far as it is known before its content; refuses a name or a version that takes no file."""
    artifact = Artifact(
        version=version,
        filename=filename,
        format=format or format_of(filename),
        uploaded_by=actor,
        uploaded_at=now,
    )
    validate(artifact, exclude=("file", "size", "sha1", "md5", "sha256", "uploaded_by", "repaired_by"))
    version.refresh_from_db(fields=["state"])
    if version.state in {Version.State.WITHDRAWN, Version.State.ARCHIVED}:
        text = _("%(version)s is %(state)s. Make a new version.")
        raise TransitionRefused(text % {"version": version, "state": version.get_state_display()})
    return artifact


def store_received(
    version: Version, *, actor: Any, now: datetime, filename: str, format: str, received: Received, more: bool
) -> Artifact:
    """As `store_artifact`, for a file that was received and measured already; it is moved when it is kept."""
    artifact = check_may_store(version, actor=actor, now=now, filename=filename, format=format)
    artifact.size, artifact.sha1, artifact.md5 = received.size, received.sha1, received.md5
    artifact.sha256 = received.sha256
    artifact.file.name = artifact_path(artifact, filename)
    with transaction.atomic():
        locked = Version.objects.select_for_update(no_key=True).get(pk=version.pk)
        stored = Artifact.objects.filter(version=version, filename=artifact.filename).first()
        if stored is not None and stored.sha256 == artifact.sha256:
            keep(received, str(stored.file.name))
            if locked.state == Version.State.QUARANTINED:
                # Whoever stored it again does not bring it back himself.
                Artifact.objects.filter(pk=stored.pk).update(repaired_by=artifact.uploaded_by, checked_at=None)
            if not more:
                _make_ready(locked, version)
            return stored
        if locked.state != Version.State.DRAFT or stored is not None:
            raise ConditionRefused(
                _("%(version)s is %(state)s: its content never changes. Make a new version for another file.")
                % {"version": version, "state": locked.get_state_display()}
            )
        # The file first: a row without its file would be worse than a file without its row.
        keep(received, str(artifact.file.name))
        artifact.save(force_insert=True)
        if not more:
            _make_ready(locked, version)
    return artifact


def _make_ready(locked: Version, version: Version) -> None:
    """From now on the version consists of the files that it has."""
    if locked.state == Version.State.DRAFT:
        locked.state = Version.State.READY
        locked.save(update_fields=["state"])
    version.state = locked.state


def withdraw_version(version: Version, *, actor: Any, now: datetime, reason: str = "") -> bool:
    """Never offered again, not even where it is queued; CIs that run it keep it. False: it was withdrawn."""
    check_permission(actor, MANAGE, str(_MANAGE_TEXT))
    over = [Version.State.WITHDRAWN, Version.State.ARCHIVED]
    changed = Version.objects.exclude(state__in=over).filter(pk=version.pk)
    rows = changed.update(state=Version.State.WITHDRAWN, state_reason=reason.strip()[:300])
    version.refresh_from_db(fields=["state", "state_reason"])
    return bool(rows)


def archive_version(version: Version) -> bool:
    """Removes the files of a version for good; its rows stay. Who needs it is the caller's to know. False: was done.

    A file that another version has, too, stays until that one goes.
    """
    with transaction.atomic():
        changed = Version.objects.exclude(state=Version.State.ARCHIVED).filter(pk=version.pk)
        if not changed.update(
            state=Version.State.ARCHIVED, state_reason=language.gettext("Nothing needed its files any more.")
        ):
            return False
        for artifact in version.artifacts.all():
            transaction.on_commit(lambda a=artifact: _remove_file(a.sha256, a.file))  # type: ignore[misc]
    return True


def remove_version(version: Version, *, actor: Any) -> None:
    """Removes a version that nothing needs, with its file. Refuses with `ConditionRefused`, naming who needs
    it.
    """
    check_permission(actor, MANAGE, str(_MANAGE_TEXT))
    try:
        with transaction.atomic():
            locked = Version.objects.select_for_update().get(pk=version.pk)
            files = [(artifact.sha256, artifact.file) for artifact in locked.artifacts.all()]
            locked.artifacts.all().delete()
            locked.delete()
            for sha256, file in files:
                transaction.on_commit(lambda sha256=sha256, file=file: _remove_file(sha256, file))  # type: ignore[misc]
    except ProtectedError as error:
        raise ConditionRefused(
            _("%(version)s is still needed by: %(users)s. Withdraw it instead: then nobody gets it any more.")
            % {"version": version, "users": _needed_by(error)},
            code="version_needed",
        ) from error


def _remove_file(sha256: str, file: Any) -> None:
    others = Artifact.objects.filter(sha256=sha256).exclude(version__state=Version.State.ARCHIVED)
    if not others.exists():
        file.storage.delete(file.name)


def _needed_by(error: ProtectedError) -> str:
    groups: dict[str, list[str]] = {}
    for item in error.protected_objects:
        groups.setdefault(str(item._meta.verbose_name_plural), []).append(str(item))
    parts = []
    for name, items in sorted(groups.items()):
        more = ", …" if len(items) > 3 else ""
        parts.append(f"{len(items)} {name} ({', '.join(sorted(items)[:3])}{more})")
    return "; ".join(parts)
