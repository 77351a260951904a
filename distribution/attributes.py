"""What a device says it runs: the proof of a deployment, and the record in the configuration database."""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from cmdb.models import ConfigurationItem, InstalledVersion
from cmdb.services import record_installed, record_removed, replace_installed
from distribution.attributes_at_once import MAX_ATTRIBUTES, taken_at_once
from distribution.failures import record_reverted
from distribution.health import REQUEST, take_answer
from distribution.models import LIVE, Batch, Deployment, DeploymentEvent, DeploymentItem, DeploymentState
from distribution.said import Said, combined, read_said
from distribution.steps import record_step
from failpoints import failpoint
from software.models import Product, Version


class TooManyAttributes(Exception):
    """The CI would have more attributes than are kept."""


def record_attributes(
    ci: ConfigurationItem, *, data: Mapping[str, str | None], mode: str = "merge", now: datetime
) -> list[int]:
    """Keeps the attributes and acts on the versions in them. `mode` is merge (None deletes), replace or
    remove.

    A deployment under way, or overdue, whose versions they show has succeeded; one that the device closed as
    success and that they contradict has failed (`reverted`), and so has one that succeeded and is undone: the CI runs
    again what it ran before. What the CI runs is written down; a version that no deployment explains is drift. Returns
    the ids of the deployments that ended. Raises `TooManyAttributes`.
    """
    ended = taken_at_once(ci, data=data, mode=mode, now=now)
    if ended is not None:
        return ended
    with transaction.atomic():
        deployments = _judged(ci)
        before = _locked_attributes(ci)
        after = combined(before, data, mode)
        if len(after) > MAX_ATTRIBUTES and len(after) > len(before):
            raise TooManyAttributes
        ConfigurationItem.objects.filter(pk=ci.pk).update(attributes=after, attributes_at=now, attributes_wanted=False)
        items, current = _items_of(deployments), _current_of(ci)
        products = [i.product for i in items], [c.product for c in current]
        said = read_said(ci, after, before, set(data), mode, *products)
        ended = _act(ci, deployments, items, current, said, now)
        if REQUEST in data:
            take_answer(ci, data, now=now)
        failpoint("attributes.before_commit")
        return ended


def record_declared(ci: ConfigurationItem, *, version: Version, now: datetime) -> bool:
    """What the device declares to run after an update that the portal did not bring (by hand, a factory image).

    Acts like an attribute that names this version; one that does is kept in step. False: it was known already.
    """
    with transaction.atomic():
        deployments = _judged(ci)
        attributes = _locked_attributes(ci)
        items, current = _items_of(deployments), _current_of(ci)
        products = [i.product for i in items], [c.product for c in current]
        said = read_said(ci, attributes, attributes, set(), "merge", *products)
        key = said.keys.get(version.product_id)
        if key in attributes:
            ConfigurationItem.objects.filter(pk=ci.pk).update(attributes={**attributes, key: version.label})
        said.add(version.product, version.label)
        is_known = any(row.product_id == version.product_id and row.label == version.label for row in current)
        ended = _act(ci, deployments, items, current, said, now)
        return bool(ended) or not is_known


def _judged(ci: ConfigurationItem) -> list[Deployment]:
    """The deployments that a message can end, locked: under way or overdue, and meant to be installed."""
    overdue = Q(state=DeploymentState.QUEUED, overdue_at__isnull=False)
    rows = Deployment.objects.select_for_update(no_key=True, of=("self",)).select_related("batch")
    rows = rows.filter(Q(state__in=LIVE) | overdue, ci_id=ci.pk)
    return list(rows.exclude(batch__mode=Batch.Mode.DOWNLOAD_ONLY).order_by("id"))


def _locked_attributes(ci: ConfigurationItem) -> Mapping[str, str]:
    row = ConfigurationItem.objects.select_for_update(no_key=True).only("attributes").get(pk=ci.pk)
    return row.attributes if isinstance(row.attributes, dict) else {}


def _items_of(deployments: list[Deployment]) -> list[DeploymentItem]:
    if not deployments:
        return []
    rows = DeploymentItem.objects.filter(deployment__in=deployments)
    return list(rows.select_related("product", "to_version"))


def _current_of(ci: ConfigurationItem) -> list[InstalledVersion]:
    return list(InstalledVersion.objects.filter(ci_id=ci.pk, valid_to=None).select_related("product"))


def _act(
    ci: ConfigurationItem,
    deployments: list[Deployment],
    items: list[DeploymentItem],
    current: list[InstalledVersion],
    said: Said,
    now: datetime,
) -> list[int]:
    """Ends what the message proves or disproves and writes down what runs; ids of the deployments that ended."""
    ended = [
        deployment.pk
        for deployment in deployments
        if _judge(deployment, [i for i in items if i.deployment_id == deployment.pk], said, now)
    ]
    proven = {
        item.product_id: (deployment.batch.label, item.to_version)
        for deployment in deployments
        if deployment.state == DeploymentState.SUCCEEDED
        for item in items
        if item.deployment_id == deployment.pk
    }
    _find_reverted(ci, current, said, set(proven), now)
    _write_installed(ci, current, said, proven, now)
    return ended


def _find_reverted(
    ci: ConfigurationItem, current: list[InstalledVersion], said: Said, proven: set[int], now: datetime
) -> None:
    """Recognises a device that had succeeded and runs again what it ran before: the deployment counts as failed."""
    runs = {row.product_id: row.label for row in current}
    changed = [pk for pk in said.spoken_of - proven if said.labels[pk] != runs.get(pk)]
    if not changed:
        return
    items = DeploymentItem.objects.filter(deployment__ci_id=ci.pk, product__in=changed)
    # What was never offered changed nothing, except the findings of this function.
    known = items.filter(Q(deployment__offered_at__isnull=False) | Q(deployment__state=DeploymentState.FAILED))
    known = known.exclude(deployment__batch__mode=Batch.Mode.DOWNLOAD_ONLY)
    newest = known.select_related("deployment__batch", "product", "to_version", "from_version")
    for item in newest.order_by("product_id", "-deployment_id").distinct("product_id"):
        deployment = item.deployment
        is_ours = deployment.state == DeploymentState.SUCCEEDED and deployment.batch.purpose == Batch.Purpose.FORWARD
        ran, label = _label(item.from_version), said.labels[item.product_id]
        if is_ours and label == ran != _label(item.to_version) and runs.get(item.product_id) == _label(item.to_version):
            record_reverted(deployment, message=f"It went back to {item.product.slug} {label or '–'}", now=now)
            return


def _label(version: Version | None) -> str | None:
    return version.label if version is not None else None


def _judge(deployment: Deployment, items: list[DeploymentItem], said: Said, now: datetime) -> bool:
    """Ends the deployment if the message proves or disproves it; whether it did."""
    if not items or not any(item.product_id in said.spoken_of for item in items):
        return False
    wrong = []
    for item in items:
        label = _label(item.to_version)
        is_unsaid = label is None and item.product_id not in said.spoken_of
        if is_unsaid or item.product_id not in said.labels:
            return False
        if said.labels[item.product_id] != label:
            wrong.append(item)
    if not wrong:
        return _end(deployment, DeploymentState.SUCCEEDED, now)
    if deployment.state != DeploymentState.CONFIRMING:
        return False
    contradicted = [item for item in wrong if item.product_id in said.spoken_of]
    if not contradicted:
        return False
    text = ", ".join(f"{i.product.slug} {said.labels[i.product_id] or '–'}" for i in contradicted)
    return _end(deployment, DeploymentState.FAILED, now, error_code="reverted", message=f"It runs {text}"[:512])


def _end(deployment: Deployment, to_state: str, now: datetime, **values: str) -> bool:
    is_written = record_step(
        deployment.pk,
        from_state=deployment.state,
        to_state=to_state,
        kind=DeploymentEvent.Kind.ATTRIBUTES,
        now=now,
        details=[values["message"]] if "message" in values else (),
        values=values,
    )
    deployment.state = DeploymentState(to_state)
    return is_written


def _write_installed(
    ci: ConfigurationItem,
    current: list[InstalledVersion],
    said: Said,
    proven: Mapping[int, tuple[str, Version | None]],
    now: datetime,
) -> None:
    rows = {row.product_id: row for row in current}
    for product_id in sorted(said.spoken_of):
        product, label, row = said.products[product_id], said.labels[product_id], rows.get(product_id)
        if label is None:
            if row is not None:
                brought_by = proven[product_id][0] if product_id in proven else _explained_by(ci, product, None)
                record_removed(ci, product=product, now=now, source=brought_by or "")
            continue
        if row is not None and row.label == label and row.version_id is not None:
            continue
        if product_id in proven:
            # What a deployment has just proven needs no search for an explanation; the CI is locked, its row is read.
            brought_by, version = proven[product_id]
            replace_installed(
                ci, row, product=product, version=version, label=label, now=now, source=brought_by, is_drift=False
            )
            continue
        source = _explained_by(ci, product, label)
        record_installed(
            ci,
            product=product,
            label=label,
            now=now,
            source=source or "",
            is_drift=source is None,
            is_told=True,
        )


def _explained_by(ci: ConfigurationItem, product: Product, label: str | None) -> str | None:
    """Label of the batch that brought this version (None: took it away), or went back to it; None: nobody of ours."""
    item = (
        DeploymentItem.objects.filter(deployment__ci_id=ci.pk, product=product)
        .exclude(deployment__offered_at=None, deployment__overdue_at=None)
        .exclude(deployment__batch__mode=Batch.Mode.DOWNLOAD_ONLY)
        .select_related("deployment__batch", "to_version", "from_version")
        .order_by("-deployment_id")
        .first()
    )
    if item is None:
        return None
    is_target = label == _label(item.to_version)
    is_way_back = item.deployment.state != DeploymentState.SUCCEEDED and label == _label(item.from_version)
    return item.deployment.batch.label if is_target or is_way_back else None
