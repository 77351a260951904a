"""What a deployment consists of, read for a device: two statements that are planned once for each connection."""

from collections import defaultdict
from typing import Any

from django.db import connection
from django.db.models import Model

from cmdb.prepared import fetch_rows
from distribution.models import Deployment, DeploymentItem
from software.models import Artifact, Product, Version


class _Columns:
    """Columns of a model under an alias, and the object that a row has in them."""

    def __init__(self, model: type[Model], alias: str, *without: str) -> None:
        self._model = model
        self.fields = [field.attname for field in model._meta.concrete_fields if field.name not in without]
        self.text = ", ".join(f'{alias}."{name}"' for name in self.fields)

    def read(self, row: tuple[Any, ...], begin: int = 0) -> Any:
        """The object, or None where an outer join found none."""
        values = row[begin : begin + len(self.fields)]
        return None if values[0] is None else self._model.from_db(connection.alias, self.fields, values)


_ITEM, _PRODUCT = _Columns(DeploymentItem, "i"), _Columns(Product, "p", "description")
_TO, _FROM = _Columns(Version, "t", "notes"), _Columns(Version, "f", "notes")
_ARTIFACT = _Columns(Artifact, "a")
_ITEMS = f"""
SELECT {_ITEM.text}, {_PRODUCT.text}, {_TO.text}, {_FROM.text}
FROM distribution_deploymentitem i JOIN software_product p ON p.id = i.product_id
LEFT JOIN software_version t ON t.id = i.to_version_id
LEFT JOIN software_version f ON f.id = i.from_version_id
WHERE i.deployment_id = %(deployment)s ORDER BY i.position
"""  # noqa: S608 - put together from constants
_ARTIFACTS = f"""
SELECT {_ARTIFACT.text}
FROM distribution_deploymentitem i JOIN software_artifact a ON a.version_id = i.to_version_id
WHERE i.deployment_id = %(deployment)s ORDER BY a.id
"""  # noqa: S608 - put together from constants


def items_of(deployment: Deployment) -> list[DeploymentItem]:
    """The items in their order, with product, both versions, and the files of the new one (`to_version.artifacts`)."""
    artifacts = defaultdict(list)
    for row in fetch_rows(_ARTIFACTS, {"deployment": deployment.pk}):
        artifact: Artifact = _ARTIFACT.read(row)
        artifacts[artifact.version_id].append(artifact)
    items = []
    for row in fetch_rows(_ITEMS, {"deployment": deployment.pk}):
        item: DeploymentItem = _ITEM.read(row)
        begin = len(_ITEM.fields)
        item.product = _PRODUCT.read(row, begin)
        begin += len(_PRODUCT.fields)
        item.to_version = _TO.read(row, begin)
        item.from_version = _FROM.read(row, begin + len(_TO.fields))
        if item.to_version is not None:
            _remember(item.to_version, artifacts[item.to_version.pk])
        items.append(item)
    return items


def _remember(version: Version, artifacts: list[Artifact]) -> None:
    """What `prefetch_related` would do."""
    found = version.artifacts.all()
    found._result_cache, found._prefetch_done = artifacts, True  # type: ignore[attr-defined]
    version._prefetched_objects_cache = {"artifacts": found}  # type: ignore[attr-defined]
