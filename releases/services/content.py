"""What a release consists of, as hashes that tests and approvals are bound to."""

from releases.models import Release
from releases.policy import RolloutPolicy, TargetSelector
from tickets.services import content_hash


def release_hash(release: Release) -> str:
    """SHA-256 over package, digests, RFC numbers, policy and target selector: what tests and approvals are bound to."""
    items = [
        {
            "product": item.product.slug,
            "version": item.version.label,
            "position": item.position,
            "sha256": sorted(artifact.sha256 for artifact in item.version.artifacts.all()),
        }
        for item in release.items.select_related("product", "version").prefetch_related("version__artifacts")
    ]
    return content_hash(
        {
            "items": items,
            "changes": sorted(release.changes.values_list("pk", flat=True)),
            "policy": RolloutPolicy.from_json(release.policy).to_json(),
            "targets": TargetSelector.from_json(release.targets).to_json(),
        }
    )


def package_hash(release: Release) -> str:
    """SHA-256 over what is installed and why: versions with their digests, and RFC numbers. Tests are bound to it."""
    rows = release.items.order_by("position").values_list(
        "product__slug", "version__label", "position", "version__artifacts__sha256"
    )
    changes = release.changes.order_by("pk").values_list("pk", flat=True)
    return content_hash({"items": [list(row) for row in rows], "changes": list(changes)})


def lock_release(release: Release) -> Release:
    """The row, locked, read into the caller's own instance so that he sees what was changed."""
    Release.objects.select_for_update().only("pk").get(pk=release.pk)
    release.refresh_from_db()
    return release
