"""Props: a product with stored files, CIs that run a version of it, and their devices."""

import io
import tarfile
from datetime import datetime
from typing import Any

from cmdb import services as cmdb
from cmdb.models import ConfigurationItem
from distribution import services
from distribution.models import Batch, Deployment, DeploymentEvent
from software.models import Product, Version
from software.services import store_artifact
from tests.factories import NOW, make_ci, make_product, make_version


def archive(product: str, label: str, size: int = 0) -> bytes:
    """A small software archive; `size` bytes more for tests that look at parts of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in (("software.json", f'{{"product": "{product}", "version": "{label}"}}'.encode()),):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue() + bytes(i * 7 % 251 for i in range(size))


def stored_version(product: Product, label: str, *, size: int = 0) -> Version:
    """A ready version with its file in the media library."""
    version = make_version(product, label, state=Version.State.DRAFT)
    store_artifact(
        version,
        actor=None,
        now=NOW,
        filename=f"{product.slug}-{label}.tar.gz",
        stream=io.BytesIO(archive(product.slug, label, size)),
    )
    return version


def make_fleet(number: int, product: Product, label: str, *, prefix: str = "ci") -> list[ConfigurationItem]:
    """CIs whose agents have reported this version."""
    cis = [make_ci(f"{prefix}-{i}", agent_id=f"{prefix}-{i}") for i in range(1, number + 1)]
    for ci in cis:
        cmdb.record_installed(ci, product=product, label=label, now=NOW)
    return cis


def make_batch(label: str = "ROL-0000001", *, purpose: str = "forward", is_open: bool = True, **values: Any) -> Batch:
    batch = services.create_batch(label=label, purpose=purpose, now=NOW, **values)
    if is_open:
        services.open_batch(batch, now=NOW)
    return batch


def queue(batch: Batch, cis: list[ConfigurationItem], *versions: Version, now: datetime = NOW) -> list[Deployment]:
    """Queues the versions for the CIs; their newest deployments of the batch in the order of the CIs."""
    package = [(version.product_id, version.pk, place) for place, version in enumerate(versions, start=1)]
    services.queue_deployments(batch, ci_ids=[ci.pk for ci in cis], package=package, now=now)
    return [batch.deployments.filter(ci=ci).latest("attempt") for ci in cis]


def history(deployment: Deployment) -> list[tuple[str, str, str]]:
    return list(
        DeploymentEvent.objects.filter(deployment=deployment)
        .order_by("id")
        .values_list("kind", "from_state", "to_state")
    )


def two_versions(slug: str = "billing") -> tuple[Product, Version, Version]:
    product = make_product(slug)
    return product, make_version(product, "1.0"), make_version(product, "2.0")


def state(deployment: Deployment) -> str:
    """The state as it is in the database now."""
    return Deployment.objects.values_list("state", flat=True).get(pk=deployment.pk)
