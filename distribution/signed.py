"""Whether what a deployment brings is signed, and the envelopes that its device verifies."""

from collections.abc import Sequence
from typing import Any

# Whether the item `i` lacks a signature that counts now. A step to a lower counter and a removal need a decision,
# whose date then counts instead of the manifest's.
_UNSIGNED = """
    CASE WHEN i.to_version_id IS NULL OR target.counter < origin.counter THEN
        NOT EXISTS (
            SELECT 1 FROM software_rollbackdecision r
            WHERE r.from_version_id = i.from_version_id AND r.to_version_id IS NOT DISTINCT FROM i.to_version_id
                AND r.good_until > clock_timestamp())
        OR i.to_version_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM software_releasemanifest m WHERE m.version_id = i.to_version_id AND m.is_trusted)
    ELSE NOT EXISTS (
        SELECT 1 FROM software_releasemanifest m
        WHERE m.version_id = i.to_version_id AND m.good_until > clock_timestamp())
    END
"""


def is_signed(d: str) -> str:
    """Whether the deployment `d` may be offered as far as signatures go; %(signed)s says whether they are required."""
    return f"""
    (NOT %(signed)s::boolean OR NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i
        LEFT JOIN software_version target ON target.id = i.to_version_id
        LEFT JOIN software_version origin ON origin.id = i.from_version_id
        WHERE i.deployment_id = {d}.id AND {_UNSIGNED}))
"""  # noqa: S608 - put together from constants


# The envelopes that a device verifies for the item `i` from the version `origin` to `target`: the manifest, where one
# is needed the decision, and the key sets: the newest, before it those in which root keys changed, newest first.
ENVELOPES = """
    (SELECT m.envelope FROM software_releasemanifest m
        WHERE m.version_id = i.to_version_id AND m.is_trusted ORDER BY m.good_until DESC, m.id DESC LIMIT 1),
    (SELECT r.envelope FROM software_rollbackdecision r
        WHERE r.from_version_id = i.from_version_id AND r.to_version_id IS NOT DISTINCT FROM i.to_version_id
            AND r.is_trusted AND (i.to_version_id IS NULL OR target.counter < origin.counter)
        ORDER BY r.good_until DESC, r.id DESC LIMIT 1),
    (SELECT json_agg(k.envelope ORDER BY k.number DESC) FROM software_keyset k
        WHERE k.changes_roots OR k.number = (SELECT max(number) FROM software_keyset))
"""


def metadata_of(envelopes: Sequence[Any]) -> list[dict[str, str]]:
    """The metadata of a product's chunk: those of its `ENVELOPES` that there are."""
    manifest, decision, key_sets = envelopes
    named = [("itsm.release", manifest), ("itsm.rollback", decision), *(("itsm.keys", one) for one in key_sets or ())]
    return [{"key": key, "value": text} for key, text in named if text]
