"""What a device is to do next, and taking it there: which deployment it may have now, in which order."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from cmdb.models import ConfigurationItem
from cmdb.prepared import at_once, fetch_row
from cmdb.services import Beside
from distribution.failures import failed_since
from distribution.models import Batch, Deployment, DeploymentEvent, DeploymentState, mode_at
from distribution.signed import is_signed
from distribution.steps import move_where
from failpoints import failpoint


def offerable(d: str, b: str, *, may_change: str = "%(may_change)s::boolean", can_wait: str = "false") -> str:
    """Whether the waiting deployment `d` of the batch `b` could be offered now.

    `may_change`: the CI's window is open, or its agent waits for it itself. `can_wait`: the agent knows “skip”.
    """
    return f"""
    {b}.is_open AND ({b}.ignores_windows OR {may_change})
    -- A further attempt that waits for its time, which the tick takes away.
    AND {d}.not_before IS NULL
    AND ({b}.mode <> 'download_only' OR {can_wait})
    -- Overdue ones do not fill the cap: a dead device would hold its place for ever.
    AND ({b}.max_in_flight IS NULL OR {b}.max_in_flight > (
        SELECT count(*) FROM distribution_deployment flying
        WHERE flying.batch_id = {b}.id AND flying.overdue_at IS NULL
            AND flying.state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown')))
    AND ({b}.max_downloads IS NULL OR {b}.max_downloads > (
        SELECT count(*) FROM distribution_deployment fetching
        WHERE fetching.batch_id = {b}.id AND fetching.overdue_at IS NULL
            AND fetching.state IN ('offered', 'downloading')))
    AND NOT EXISTS (
        SELECT 1 FROM cmdb_configurationitem c WHERE c.id = {d}.ci_id AND c.lifecycle IN ('retired', 'disposed'))
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i JOIN software_version v ON v.id = i.to_version_id
        WHERE i.deployment_id = {d}.id AND v.state <> 'ready')
    AND {is_signed(d)}
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i
        JOIN cmdb_installedversion iv ON iv.ci_id = {d}.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
        LEFT JOIN software_version running ON running.id = iv.version_id
        LEFT JOIN software_version wanted ON wanted.id = i.to_version_id
        WHERE i.deployment_id = {d}.id AND (
            -- Found changed by somebody else since it was queued: a person has to look first.
            iv.is_drift AND iv.valid_from > {d}.created_at
                AND iv.version_id IS DISTINCT FROM i.from_version_id AND iv.version_id IS DISTINCT FROM i.to_version_id
            -- Forward never means an older version, whatever was installed meanwhile, and skips no step.
            OR {b}.purpose = 'forward' AND (running."order" > wanted."order" OR EXISTS (
                SELECT 1 FROM software_version step WHERE step.must_not_skip AND step.state = 'ready'
                    AND step.product_id = i.product_id
                    AND step."order" > running."order" AND step."order" < wanted."order"))))
"""  # noqa: S608 - put together from constants


_CAN_WAIT = "%(can_wait)s::boolean"
_LAST_INSTALLED = """
(SELECT s.id FROM (
        -- Fenced off, so that the CI's own deployments are read: as long as few had succeeded when the statement was
        -- planned, PostgreSQL would go through all that succeeded, for each poll.
        SELECT id, state, batch_id FROM distribution_deployment WHERE ci_id = {ci} ORDER BY id DESC OFFSET 0
    ) s JOIN distribution_batch sb ON sb.id = s.batch_id
    WHERE s.state = 'succeeded' AND sb.mode <> 'download_only' ORDER BY s.id DESC LIMIT 1)
"""
_COLUMNS = "o.id, o.state, o.created_at, o.mode, o.force_after, o.opened_at, o.ignores_windows"


def _next(ci: str, *, may_change: str, can_wait: str) -> str:
    """The deployment `o` that the CI is at, or the first that it may have; at most one row."""
    return f"""
LEFT JOIN LATERAL (
    SELECT d.id, d.state, d.created_at, b.mode, b.force_after, b.opened_at, b.ignores_windows
    FROM distribution_deployment d JOIN distribution_batch b ON b.id = d.batch_id
    WHERE d.ci_id = {ci}
        AND d.state IN ('queued', 'offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown')
        AND (d.state <> 'queued' OR {offerable("d", "b", may_change=may_change, can_wait=can_wait)})
    ORDER BY d.state = 'queued', d.weight DESC, d.id LIMIT 1
) o ON true
"""  # noqa: S608 - put together from constants


_CURRENT = f"""
SELECT {_COLUMNS}, {_LAST_INSTALLED.format(ci="%(ci)s")}
FROM (SELECT 1) always {_next("%(ci)s", may_change="%(may_change)s::boolean", can_wait=_CAN_WAIT)}
"""  # noqa: S608 - put together from constants
# Beside the CI its window is not known yet: what waits for one is not found, unless its agent waits itself.
_WAITS_ITSELF = "coalesce(p.can_wait, true)"
_BESIDE_COLUMNS = f"{_COLUMNS}, {_LAST_INSTALLED.format(ci='ci.id')}"
_BESIDE_JOINS = _next("ci.id", may_change=f"(w.id IS NULL OR {_WAITS_ITSELF})", can_wait=_WAITS_ITSELF)


def _could_be_offered(d: str, b: str, *, may_change: str = "%(may_change)s::boolean", can_wait: str = _CAN_WAIT) -> str:
    """Whether the waiting deployment `d` of the batch `b` could be offered now, and is the one whose turn it is."""
    return f"""
    {offerable(d, b, may_change=may_change, can_wait=can_wait)}
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deployment other WHERE other.ci_id = {d}.ci_id
            AND other.state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown'))
    -- The tick leaves it out as soon as it looks.
    AND NOT {failed_since(d)}
    -- The order is the portal's: a device that asks for another one than its link names does not get it.
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deployment first JOIN distribution_batch fb ON fb.id = first.batch_id
        WHERE first.ci_id = {d}.ci_id AND first.state = 'queued' AND (first.weight, -first.id) > ({d}.weight, -{d}.id)
            AND {offerable("first", "fb", may_change=may_change, can_wait=can_wait)})
"""  # noqa: S608 - put together from constants


# The deployment `d` of the batch `b`, read beside the CI: it could be offered as soon as the window allows it, and with
# nothing to it: the batch has no cap, and the CI runs what it ran when this was queued, which is not what it is to run.
IS_FREE = f"""
CASE WHEN d.state = 'queued' AND b.max_in_flight IS NULL AND b.max_downloads IS NULL THEN
    {_could_be_offered("d", "b", may_change="true", can_wait=_WAITS_ITSELF)}
    AND NOT EXISTS (
        SELECT 1 FROM distribution_deploymentitem i
        LEFT JOIN cmdb_installedversion iv
            ON iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
        WHERE i.deployment_id = d.id AND (
            iv.version_id IS DISTINCT FROM i.from_version_id OR i.to_version_id IS NOT DISTINCT FROM i.from_version_id))
END
"""  # noqa: S608 - put together from constants
# What was free is taken if it still waits and was not quarantined a moment ago. The batch stays open until the commit;
# one live deployment for each CI is a constraint of the table.
_TAKE = """
d.id = %(id)s AND EXISTS (SELECT 1 FROM held) AND NOT EXISTS (
    SELECT 1 FROM distribution_deploymentitem i JOIN software_version v ON v.id = i.to_version_id
    WHERE i.deployment_id = d.id AND v.state <> 'ready')
"""
_HELD = """
held AS MATERIALIZED (
    SELECT id FROM distribution_batch
    WHERE id = %(batch)s AND is_open AND max_in_flight IS NULL AND max_downloads IS NULL FOR SHARE),
"""
_OFFER = f"""
d.id = %(id)s AND d.state = 'queued' AND EXISTS (
    SELECT 1 FROM distribution_batch b WHERE b.id = d.batch_id AND {_could_be_offered("d", "b")})
"""  # noqa: S608 - put together from constants
# By one after the other, so that a cap holds.
_LOCK_BATCH = "SELECT id FROM distribution_batch WHERE id = %(batch)s AND is_open FOR NO KEY UPDATE"
_IS_THERE = """
SELECT bool_and(CASE WHEN i.to_version_id IS NULL THEN iv.id IS NULL
        ELSE iv.version_id IS NOT DISTINCT FROM i.to_version_id END),
    bool_or(iv.version_id IS DISTINCT FROM i.from_version_id)
FROM distribution_deploymentitem i
JOIN distribution_deployment d ON d.id = i.deployment_id
LEFT JOIN cmdb_installedversion iv ON iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
WHERE i.deployment_id = %(id)s
"""
_REFRESH_FROM = """
UPDATE distribution_deploymentitem i SET from_version_id = iv.version_id
FROM distribution_deployment d, cmdb_installedversion iv
WHERE i.deployment_id = %s AND d.id = i.deployment_id AND i.to_version_id IS NOT NULL
    AND iv.ci_id = d.ci_id AND iv.product_id = i.product_id AND iv.valid_to IS NULL
    AND iv.version_id IS DISTINCT FROM i.from_version_id
"""


@dataclass(frozen=True, slots=True)
class Action:
    """What a device should do now: `deploy` or `cancel` the deployment with this id; None: nothing.

    `mark` changes whenever the content behind the link does.
    """

    deploy: int | None = None
    cancel: int | None = None
    mark: int = 0
    installed: int | None = None

    @property
    def is_idle(self) -> bool:
        return self.deploy is None and self.cancel is None


def signed() -> dict[str, bool]:
    """The value that the statements of this module need."""
    return {"signed": settings.REQUIRE_SIGNATURES}


@dataclass(frozen=True, slots=True)
class Window:
    """What the CI's maintenance window means for its device now."""

    is_open: bool
    can_wait: bool

    @property
    def may_change(self) -> bool:
        """Whether something new may be shown to the device: it may begin, or waits itself."""
        return self.is_open or self.can_wait


def window_of(ci: ConfigurationItem, now: datetime) -> Window:
    """The CI's window at this time. A CI without one may be changed at any time."""
    is_pulled = ci.channel == ConfigurationItem.Channel.DDI
    can_wait = is_pulled and (ci.agent_profile is None or ci.agent_profile.can_wait)
    return Window(is_open=ci.window is None or ci.window.is_open(now), can_wait=can_wait)


def beside_action() -> Beside:
    """What `current_action` needs, for the statement that finds the CI."""
    return Beside("action", _BESIDE_COLUMNS, _BESIDE_JOINS, signed())


def current_action(ci: ConfigurationItem, *, now: datetime) -> Action:
    """What the device should do, and its last successful deployment. At most one query; writes nothing.

    One under way comes first, then the heaviest, then the oldest.
    """
    if ci.channel != ConfigurationItem.Channel.DDI:
        return Action()  # another channel brings its software
    window = window_of(ci, now)
    row = ci.take_beside("action")
    if row is None or (ci.window is not None and window.is_open and not window.can_wait):
        values = {"ci": ci.pk, "may_change": window.may_change, "can_wait": window.can_wait, **signed()}
        row = fetch_row(_CURRENT, values)
    assert row is not None
    deployment_id, state, created_at, mode, force_after, opened_at, ignores, installed = row
    if state == DeploymentState.CANCELLING:
        return Action(cancel=deployment_id, installed=installed)
    if state is None or state == DeploymentState.CONFIRMING:
        return Action(installed=installed)
    is_open = ignores or window.is_open
    if state == DeploymentState.OFFERED and not (is_open or window.can_wait):
        return Action(installed=installed)
    text = f"{created_at.timestamp()} {mode_at(mode, force_after, opened_at, now)} {is_open}"
    return Action(deploy=deployment_id, mark=zlib.crc32(text.encode()), installed=installed)


def is_held(deployment: Deployment, ci: ConfigurationItem, *, now: datetime) -> bool:
    """Whether the device has to wait for its window, and does not wait itself: it must not see the deployment.

    What it has begun goes on: the portal cannot stop a device in the middle of a download.
    """
    is_untouched = deployment.state in {DeploymentState.QUEUED, DeploymentState.OFFERED}
    return is_untouched and not deployment.batch.ignores_windows and not window_of(ci, now).may_change


def offer(deployment: Deployment, ci: ConfigurationItem, *, now: datetime) -> bool:
    """Takes a waiting deployment to `offered`; False: it cannot be offered now, or the CI is there already.

    The object shows the state afterwards, also when a parallel request has offered it. Exact under any number
    of parallel requests: the batch stays open and its cap stays observed until the commit.
    """
    window = window_of(ci, now)
    values = {
        "id": deployment.pk,
        "batch": deployment.batch_id,
        "may_change": window.may_change,
        "can_wait": window.can_wait,
        **signed(),
    }
    moved = False
    failpoint("offer.asked")
    try:
        if deployment.is_free and (window.may_change or deployment.batch.ignores_windows):
            with at_once():
                moved = _move(_TAKE, values, now, before=_HELD)
        if not moved:
            with transaction.atomic():
                moved = _offer_held(deployment, values, now)
    except IntegrityError:
        # Another deployment of the CI was offered in the same moment.
        moved = False
    if moved:
        deployment.state, deployment.offered_at = DeploymentState.OFFERED, now
    elif deployment.state == DeploymentState.QUEUED:
        deployment.refresh_from_db(fields=["state", "offered_at"])
    return moved


def _offer_held(deployment: Deployment, values: Mapping[str, Any], now: datetime) -> bool:
    """The offer with everything that there may be to it, while the batch is held."""
    if fetch_row(_LOCK_BATCH, values) is None:
        return False
    is_there, is_different = fetch_row(_IS_THERE, values) or (None, None)
    if is_there:
        _skip(deployment, now)
        return False
    moved = _move(_OFFER, values, now)
    if moved and is_different:
        with connection.cursor() as cursor:
            cursor.execute(_REFRESH_FROM, [deployment.pk])
        deployment.items_read = None
    return moved


def _move(where: str, values: Mapping[str, Any], now: datetime, *, before: str = "") -> bool:
    moved = move_where(
        where,
        values,
        to_state=DeploymentState.OFFERED,
        kind=DeploymentEvent.Kind.OFFERED,
        now=now,
        assignments={"offered_at": "%(now)s"},
        sources=[DeploymentState.QUEUED],
        is_single=True,
        before=before,
    )
    return bool(moved)


def _skip(deployment: Deployment, now: datetime) -> None:
    move_where(
        "d.id = %(id)s",
        {"id": deployment.pk},
        to_state=DeploymentState.SKIPPED,
        kind=DeploymentEvent.Kind.ENGINE,
        now=now,
    )
    deployment.state = DeploymentState.SKIPPED


def modes(deployment: Deployment, ci: ConfigurationItem, *, now: datetime) -> tuple[str, str, bool | None]:
    """What the device may do with it now: how to download, how to update (`forced`, `attempt`, `skip`), and whether
    its window is open, None where none is told: the CI has none, or the portal keeps it for the device.
    """
    batch = deployment.batch
    mode = batch.mode_at(now)
    download = update = "attempt" if mode == Batch.Mode.SOFT else "forced"
    window = window_of(ci, now)
    is_told = ci.window is not None and window.can_wait and not batch.ignores_windows
    if mode == Batch.Mode.DOWNLOAD_ONLY or (is_told and not window.is_open):
        update = "skip"
    return download, update, window.is_open if is_told else None
