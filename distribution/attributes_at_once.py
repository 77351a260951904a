"""The usual message of a device about itself, decided by what was read beside its CI and written in one statement.

Usual is that it proves the one deployment under way, or that it says nothing new about versions. Everything else, as
health that was asked for, and what was not any more as it was read, is for `distribution.attributes`, which locks and
looks again.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from django.db import IntegrityError

from cmdb.models import ConfigurationItem
from cmdb.prepared import at_once, fetch_row
from cmdb.services import Beside
from distribution.effects import prove_installed
from distribution.health import REQUEST
from distribution.models import OPEN, DeploymentEvent, DeploymentState
from distribution.said import combined, read_said
from distribution.steps import record_step
from failpoints import failpoint
from software.models import Product

MAX_ATTRIBUTES = 100

_OPEN = ", ".join(f"'{state.value}'" for state in OPEN)
# Django leaves jsonb to its fields; json comes as values.
_COLUMNS = f"""
ci.attributes::json,
(SELECT json_agg(json_build_array(d.id, d.state, b.label, (
        SELECT json_agg(json_build_array(i.product_id, product.slug, v.label) ORDER BY i.position)
        FROM distribution_deploymentitem i JOIN software_product product ON product.id = i.product_id
        LEFT JOIN software_version v ON v.id = i.to_version_id WHERE i.deployment_id = d.id)))
    FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id AND b.mode <> 'download_only'
    WHERE d.ci_id = ci.id AND d.state IN ({_OPEN}) AND (d.state <> 'queued' OR d.overdue_at IS NOT NULL)),
(SELECT json_agg(json_build_array(iv.product_id, product.slug, CASE WHEN iv.version_id IS NOT NULL THEN iv.label END))
    FROM cmdb_installedversion iv JOIN software_product product ON product.id = iv.product_id
    WHERE iv.ci_id = ci.id AND iv.valid_to IS NULL)
"""  # noqa: S608 - put together from constants
_KEEP = """
UPDATE cmdb_configurationitem
SET attributes = %(attributes)s::jsonb, attributes_at = %(now)s::timestamptz, attributes_wanted = false
WHERE id = %(ci)s AND attributes = %(attributes_before)s::jsonb
RETURNING id
"""


def beside_attributes() -> Beside:
    """What `taken_at_once` needs, for the statement that finds the CI."""
    return Beside("attributes", _COLUMNS)


def taken_at_once(
    ci: ConfigurationItem, *, data: Mapping[str, str | None], mode: str, now: datetime
) -> list[int] | None:
    """The ids of the deployments that ended; None: nothing is written, as one statement cannot do it."""
    row = ci.take_beside("attributes")
    if row is None:
        return None
    before, judged, installed = row[0], row[1] or [], row[2] or []
    # Agents go on telling what they were asked once; it is an answer only while they are asked.
    is_answer = REQUEST in data and ci.health_request is not None
    if not isinstance(before, dict) or len(judged) > 1 or is_answer:
        return None
    after = combined(before, data, mode)
    if len(after) > MAX_ATTRIBUTES:
        return None
    values = {
        "ci": ci.pk,
        "attributes": json.dumps(after),
        "attributes_before": json.dumps(before),
        "now": now,
    }
    items = judged[0][3] if judged else []
    products = [[Product(pk=pk, slug=slug) for pk, slug, _label in rows] for rows in (items, installed)]
    said = read_said(ci, after, before, set(data), mode, *products)
    # Labels of versions that the media library knows; of others there is more to do.
    runs = {pk: label for pk, _slug, label in installed}
    new = {pk for pk in said.spoken_of if said.labels[pk] != runs.get(pk) or (pk in runs and runs[pk] is None)}
    wanted = {pk: label for pk, _slug, label in items}
    failpoint("attributes.before_commit")
    if not new and not said.spoken_of & set(wanted):
        return [] if fetch_row(_KEEP, values) is not None else None
    if new != set(wanted) or any(label is None or said.labels[pk] != label for pk, label in wanted.items()):
        return None
    return _prove(judged[0], values, now)


def _prove(deployment: tuple[int, str, str, object], values: Mapping[str, object], now: datetime) -> list[int] | None:
    pk, state, batch, _items = deployment
    try:
        with at_once():
            is_written = record_step(
                pk,
                from_state=state,
                to_state=DeploymentState.SUCCEEDED,
                kind=DeploymentEvent.Kind.ATTRIBUTES,
                now=now,
                effect=prove_installed(source=batch, values=values),
            )
    except IntegrityError:
        # What the CI runs, or what it says of itself, was changed at the same moment.
        return None
    return [pk] if is_written else None
