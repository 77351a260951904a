"""A file of the media library that a device may fetch now, because a deployment under way brings it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from cmdb.models import ConfigurationItem
from cmdb.prepared import at_once, columns_of, fetch_row
from cmdb.services import Beside
from software.models import Artifact, Format

_MD5SUM = ".MD5SUM"
_FIELDS = columns_of(
    Artifact,
    "id", "version_id", "filename", "format", "size", "sha1", "md5", "sha256", "file", "uploaded_at", "checked_at",
)  # fmt: skip
# From the CI's deployments, which are few, to the files of what they bring. A file may be called like the sum of
# another one; it has the longer name of the two.
_JOINS = f"""
LEFT JOIN LATERAL (
    SELECT {", ".join(f"a.{name}" for name in _FIELDS)}, v.state, d.id AS deployment
    FROM (
        SELECT id FROM distribution_deployment WHERE ci_id = ci.id
            AND state IN ('offered', 'downloading', 'installing', 'unknown') ORDER BY weight DESC, id OFFSET 0
    ) d JOIN distribution_deploymentitem i ON i.deployment_id = d.id
    JOIN software_version v ON v.id = i.to_version_id
    JOIN software_artifact a ON a.version_id = v.id
    WHERE v.id = %(version)s AND a.filename = ANY(%(names)s::text[])
        AND a.format = coalesce(p.takes, '{Format.ARCHIVE.value}')
    ORDER BY length(a.filename) DESC LIMIT 1
) f ON true
"""  # noqa: S608 - put together from constants
_COLUMNS = ", ".join(f"f.{name}" for name in [*_FIELDS, "state", "deployment"])

_NOTE = """
WITH d AS (
    SELECT id, state FROM distribution_deployment
    WHERE id = %(id)s AND state IN ('offered', 'downloading', 'installing', 'unknown') FOR NO KEY UPDATE
)
INSERT INTO distribution_deploymentevent
    (deployment_id, kind, from_state, to_state, at, execution, result, details, is_duplicate)
SELECT id, 'download', state, state, %(now)s::timestamptz, '', '', jsonb_build_array(%(filename)s::text), false FROM d
WHERE NOT EXISTS (
    SELECT 1 FROM distribution_deploymentevent e WHERE e.deployment_id = %(id)s AND e.kind = 'download'
        AND e.details = jsonb_build_array(%(filename)s::text))
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class FileToFetch:
    """The file, the state of its version, and the deployment that brings it."""

    artifact: Artifact
    version_state: str
    deployment_id: int
    is_sum: bool


def beside_file(version: int, filename: str) -> Beside:
    """What `find_file` needs, for the statement that finds the CI; also for `….MD5SUM`, the sum of a file."""
    names = [] if "\x00" in filename else [filename, filename.removesuffix(_MD5SUM)]
    return Beside(("file", version, filename), _COLUMNS, _JOINS, {"version": version, "names": names})


def find_file(ci: ConfigurationItem, version: int, filename: str) -> FileToFetch | None:
    """The file that the CI asked for, or the one whose sum it asked for; as it was read beside the CI."""
    row: tuple[Any, ...] | None = ci.take_beside(("file", version, filename))
    if row is None or row[0] is None:
        return None
    *fields, state, deployment = row
    artifact = Artifact.from_db(connection.alias, _FIELDS, fields)
    return FileToFetch(artifact, state, deployment, is_sum=artifact.filename != filename)


def note_download(deployment_id: int, *, filename: str, now: datetime) -> None:
    """Notes that the device fetched a whole file; once for each file."""
    with at_once():
        fetch_row(_NOTE, {"id": deployment_id, "filename": filename, "now": now})
