"""What the end of a deployment writes about its CI, in the statement that ends it: the question for its attributes, and
the record of what runs. The CI is locked after the deployment, as everywhere.
"""

from collections.abc import Mapping
from typing import Any

from distribution.steps import Effect

ASK_FOR_ATTRIBUTES = Effect("""
, asked AS (
    UPDATE cmdb_configurationitem ci SET attributes_wanted = true FROM moved
    WHERE ci.id = moved.ci_id AND NOT ci.attributes_wanted
)
""")

# Every item replaces a version that is no drift by another one. Where somebody else changed in the meantime what the CI
# runs or says, `ci_id` is empty, which the table refuses: then nothing of the whole statement is written.
_REPLACED = """
, item AS (
    SELECT i.product_id, v.id AS version_id, v.label, iv.id AS current_id
    FROM distribution_deploymentitem i
    JOIN software_version v ON v.id = i.to_version_id
    JOIN cmdb_installedversion iv ON iv.ci_id = %(ci)s AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    WHERE i.deployment_id = %(id)s
), told AS (
    UPDATE cmdb_configurationitem ci SET {told} RETURNING ci.id
), ended AS (
    UPDATE cmdb_installedversion iv SET valid_to = %(now)s::timestamptz FROM told, item
    WHERE iv.id = item.current_id AND iv.ci_id = told.id AND iv.valid_to IS NULL
    RETURNING iv.id, iv.ci_id
), installed AS (
    INSERT INTO cmdb_installedversion
        (ci_id, product_id, version_id, label, replaced_id, valid_from, source, is_drift)
    SELECT ended.ci_id, item.product_id, item.version_id, item.label, item.current_id, %(now)s::timestamptz,
        %(source)s::text, false
    FROM moved CROSS JOIN item LEFT JOIN ended ON ended.id = item.current_id
)
"""
_ASK = "attributes_wanted = true FROM moved WHERE ci.id = moved.ci_id"
_TOLD = """
    attributes = %(attributes)s::jsonb, attributes_at = %(now)s::timestamptz, attributes_wanted = false
    FROM moved WHERE ci.id = moved.ci_id AND ci.attributes = %(attributes_before)s::jsonb
"""
_IS_PLAIN = """
AND NOT EXISTS (
    SELECT 1 FROM distribution_deploymentitem i
    LEFT JOIN software_version v ON v.id = i.to_version_id
    LEFT JOIN cmdb_installedversion iv ON iv.ci_id = %(ci)s AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    WHERE i.deployment_id = d.id AND (v.id IS NULL OR iv.id IS NULL OR iv.is_drift OR iv.label = v.label))
"""


def replace_installed(*, ci_id: int, source: str) -> Effect:
    """Records that the CI runs what the deployment brought, and asks for its attributes.

    Only where each item replaces one version by another and no drift ends: what is more than that takes a transaction.
    Raises IntegrityError when the CI's versions were changed at the same moment.
    """
    return Effect(_REPLACED.format(told=_ASK), _IS_PLAIN, {"ci": ci_id, "source": source})


def prove_installed(*, source: str, values: Mapping[str, Any]) -> Effect:
    """The same where the attributes themselves are the proof: they are kept. `values`: `ci`, `attributes`, and
    `attributes_before`, which they have to be until then.
    """
    return Effect(_REPLACED.format(told=_TOLD), _IS_PLAIN, {**values, "source": source})
