"""What a deployment consists of, as its device gets it: one column, so that it can be read with other things."""

from dataclasses import dataclass
from typing import Any

from django.db import connection

from cmdb.prepared import fetch_row
from distribution.models import Deployment
from distribution.signed import ENVELOPES, metadata_of
from software.models import Artifact

_FILE_FIELDS = ["id", "version_id", "filename", "format", "size", "sha1", "md5", "sha256"]


def contents(d: str) -> str:
    """The items of the deployment `d` as JSON, for `read_items`; an SQL expression."""
    return f"""
    (SELECT json_agg(json_build_array(
            product.slug, coalesce(target.label, origin.label), target.id IS NULL,
            json_build_array({ENVELOPES}),
            (SELECT json_agg(json_build_array({", ".join(f"a.{name}" for name in _FILE_FIELDS)}) ORDER BY a.id)
                FROM software_artifact a WHERE a.version_id = target.id),
            i.way_back
        ) ORDER BY i.position)
    FROM distribution_deploymentitem i JOIN software_product product ON product.id = i.product_id
    LEFT JOIN software_version target ON target.id = i.to_version_id
    LEFT JOIN software_version origin ON origin.id = i.from_version_id
    WHERE i.deployment_id = {d}.id)
"""  # noqa: S608 - put together from constants


_CONTENTS = f"SELECT {contents('d')} FROM distribution_deployment d WHERE d.id = %(id)s"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Item:
    """One product of a deployment: the version that comes, or the one that is to be removed."""

    product: str
    version: str
    is_removal: bool
    files: list[Artifact]
    metadata: list[dict[str, str]]
    way_back: str


def read_items(rows: list[Any] | None) -> list[Item]:
    """The items in their order, from `contents`."""
    return [
        Item(
            product,
            version,
            is_removal,
            files=[Artifact.from_db(connection.alias, _FILE_FIELDS, values) for values in files or ()],
            metadata=metadata_of(envelopes),
            way_back=way_back,
        )
        for product, version, is_removal, envelopes, files, way_back in rows or ()
    ]


def items_of(deployment: Deployment) -> list[Item]:
    """The items in their order, with the files of the new version. One query, unless they were read with it."""
    if deployment.items_read is None:
        row = fetch_row(_CONTENTS, {"id": deployment.pk})
        assert row is not None
        deployment.items_read = read_items(row[0])
    return deployment.items_read
