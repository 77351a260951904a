"""What a release consists of, as hashes that tests and approvals are bound to."""

from django.utils.translation import gettext as _

from distribution.models import WayBack
from releases.models import Release
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.targets import with_too_many_files, without_file
from software.models import Version
from tickets.exceptions import ConditionRefused
from tickets.services import content_hash


def release_hash(release: Release) -> str:
    """SHA-256 over type, package, digests, RFC numbers, policy and target selector: what approvals are bound to."""
    items = [
        {
            "product": item.product.slug,
            "version": item.version.label,
            "position": item.position,
            "sha256": sorted(artifact.sha256 for artifact in item.version.artifacts.all()),
            # Not named where nothing else is said: approvals of before there was a choice stay valid.
            **({} if item.way_back == WayBack.REINSTALL else {"way_back": item.way_back}),
        }
        for item in release.items.select_related("product", "version").prefetch_related("version__artifacts")
    ]
    return content_hash(
        {
            "type": release.release_type,
            "items": items,
            "changes": sorted(release.changes.values_list("pk", flat=True)),
            "policy": RolloutPolicy.from_json(release.policy).to_json(),
            "targets": TargetSelector.from_json(release.targets).to_json(),
        }
    )


def package_hash(release: Release) -> str:
    """SHA-256 over what a test proves: versions with their digests, RFC numbers, and the type, which says how long."""
    columns = ("position", "product__slug", "version__label", "version__artifacts__sha256")
    rows = release.items.order_by(*columns).values_list(*columns)
    changes = release.changes.order_by("pk").values_list("pk", flat=True)
    return content_hash({"type": release.release_type, "items": [list(r) for r in rows], "changes": list(changes)})


def lock_release(release: Release) -> Release:
    """The row, locked, read into the caller's own instance so that he sees what was changed."""
    Release.objects.select_for_update().only("pk").get(pk=release.pk)
    release.refresh_from_db()
    return release


def check_ready(release: Release) -> None:
    """Refuses a package with a version that is not, or no longer, ready in the media library with its files."""
    not_ready = [
        str(item.version)
        for item in release.items.select_related("version__product")
        if item.version.state != Version.State.READY or not item.version.artifacts.exists()
    ]
    if not_ready:
        raise ConditionRefused(
            _("Not ready in the media library: %(versions)s. Upload their files first.")
            % {"versions": ", ".join(not_ready)}
        )


def check_files(release: Release) -> None:
    """Refuses targets whose agents take a format that a version of the package has no file of, or fewer files."""
    unfit = list(without_file(release).values_list("name", flat=True)[:20])
    if unfit:
        raise ConditionRefused(
            _("No file for the agents of: %(cis)s. Make a version with a file of their format, or exclude them.")
            % {"cis": ", ".join(unfit)},
            code="no_file",
        )
    overfed = list(with_too_many_files(release).values_list("name", flat=True)[:20])
    if overfed:
        raise ConditionRefused(
            _("Agents that take one file only would get more: %(cis)s. Make a package for them alone, or exclude them.")
            % {"cis": ", ".join(overfed)},
            code="too_many_files",
        )
