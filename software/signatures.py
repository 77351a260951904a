"""Signatures of the media library: taking in what key holders signed, and saying what they have to sign."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from signing import documents
from signing.envelope import Envelope, Untrusted
from signing.trust import accept_key_set, check
from software.models import KeySet, ReleaseManifest, RollbackDecision, Version
from software.services import MANAGE
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission

MAX_ENVELOPES = 1000
_LOCK = 0x5167
_ROWS = 500


def trusted_key_set() -> documents.KeySet | None:
    """The newest key set of the chain that begins with the pinned root keys; None: there is none.

    Sets that the present pins do not lead to count for nothing.
    """
    trusted = None
    for text in KeySet.objects.order_by("number").values_list("envelope", flat=True):
        try:
            trusted = _follow(Envelope.from_json(text), trusted)
        except Untrusted:
            continue
    return trusted


def _follow(envelope: Envelope, trusted: documents.KeySet | None, now: datetime | None = None) -> documents.KeySet:
    return accept_key_set(
        envelope,
        pinned=settings.SIGNING_ROOT_KEYS,
        pinned_threshold=settings.SIGNING_ROOT_THRESHOLD,
        trusted=trusted,
        now=now,
    )


def accept_envelopes(envelopes: Sequence[Any], *, actor: Any, now: datetime) -> list[str]:
    """Takes in key sets, release manifests and rollback decisions (JSON or its text), all or none.

    Each must be signed by keys that count, unexpired, and say what the media library says: product, version, counter
    and exactly the version's files. A repetition is no change. Returns what is new, in words. Refuses with
    `InvalidInput`, whose code is that of `signing.envelope.Untrusted` or wrong_version, artifact_mismatch,
    counter_taken.
    """
    check_permission(actor, MANAGE, _("upload signatures"))
    if not 1 <= len(envelopes) <= MAX_ENVELOPES:
        raise InvalidInput(_("Send 1 to %d envelopes.") % MAX_ENVELOPES, field="envelopes")
    try:
        read = [(envelope, documents.read(envelope)) for envelope in map(Envelope.from_json, envelopes)]
        with transaction.atomic(), connection.cursor() as cursor:
            # One at a time: each key set is judged by the one before it.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            return _Intake(actor, now).take(read)
    except Untrusted as error:
        raise InvalidInput(str(error), field="envelopes", code=error.code) from error


class _Intake:
    """One upload: key sets first, then manifests, then the decisions that name their counters."""

    def __init__(self, actor: Any, now: datetime) -> None:
        self.actor, self.now = actor, now
        self.trusted = trusted_key_set()
        self.told: list[str] = []

    def take(self, read: Sequence[tuple[Envelope, documents.Document]]) -> list[str]:
        sets = [(e, d) for e, d in read if isinstance(d, documents.KeySet)]
        for envelope, key_set in sorted(sets, key=lambda pair: pair[1].number):
            self._take_key_set(envelope, key_set)
        for envelope, document in read:
            if isinstance(document, documents.Release):
                self._take_manifest(envelope, document)
        for envelope, document in read:
            if isinstance(document, documents.Rollback):
                self._take_decision(envelope, document)
        return self.told

    def _take_key_set(self, envelope: Envelope, key_set: documents.KeySet) -> None:
        if KeySet.objects.filter(sha256=_digest(envelope)).exists():
            return
        before, self.trusted = self.trusted, _follow(envelope, self.trusted, self.now)
        is_same = before is not None and (before.good_roots, before.threshold) == (
            key_set.good_roots,
            key_set.threshold,
        )
        KeySet.objects.create(number=key_set.number, changes_roots=not is_same, **self._common(envelope, key_set))
        judge_again()
        self.told.append(_("key set %d") % key_set.number)

    def _take_manifest(self, envelope: Envelope, manifest: documents.Release) -> None:
        version = _version(manifest.product, manifest.version)
        trust = self._trust(envelope, manifest, ReleaseManifest)
        if trust is None:
            return
        if _files(version) != manifest.files:
            text = _("The manifest of %(version)s names other files than the media library has.")
            raise InvalidInput(text % {"version": version}, field="envelopes", code="artifact_mismatch")
        self._give_counter(version, manifest.counter)
        ReleaseManifest.objects.create(version=version, **trust, **self._common(envelope, manifest))
        self.told.append(_("manifest of %s") % version)

    def _give_counter(self, version: Version, counter: int) -> None:
        other = Version.objects.filter(product=version.product, counter=counter).exclude(pk=version.pk).first()
        if other is not None or version.counter not in {None, counter}:
            text = _("Counter %(counter)d is wrong for %(version)s: %(why)s. Export what has to be signed again.")
            why = _("%s has it") % other if other is not None else _("it has %d") % (version.counter or 0)
            values = {"counter": counter, "version": version, "why": why}
            raise InvalidInput(text % values, field="envelopes", code="counter_taken")
        Version.objects.filter(pk=version.pk, counter__isnull=True).update(counter=counter)

    def _take_decision(self, envelope: Envelope, decision: documents.Rollback) -> None:
        origin = self._point(decision.product, decision.from_)
        target = self._point(decision.product, decision.to) if decision.to else None
        trust = self._trust(envelope, decision, RollbackDecision)
        if trust is None:
            return
        made = RollbackDecision.objects.create(
            product=origin.product,
            from_version=origin,
            to_version=target,
            **trust,
            **self._common(envelope, decision),
        )
        self.told.append(_("rollback decision %s") % made)

    def _point(self, product: str, point: documents.Point) -> Version:
        version = _version(product, point.version)
        if version.counter != point.counter:
            text = _("The decision gives %(version)s the counter %(given)d; its manifest says %(own)s.")
            values = {"version": version, "given": point.counter, "own": version.counter or _("nothing yet")}
            raise InvalidInput(text % values, field="envelopes", code="wrong_version")
        return version

    def _trust(
        self, envelope: Envelope, document: documents.Release | documents.Rollback, model: Any
    ) -> dict[str, Any] | None:
        """How far it is to be believed; None: it was there before."""
        if model.objects.filter(sha256=_digest(envelope)).exists():
            return None
        if self.trusted is None:
            raise Untrusted("no_root", _("There is no trusted key set yet. Upload the one that the root keys signed."))
        check(envelope, self.trusted)
        good_until = min(document.expires, self.trusted.expires)
        if good_until <= self.now:
            raise Untrusted("manifest_expired", _("It has expired, or the key set has. Have it signed again."))
        return {"is_trusted": True, "good_until": good_until}

    def _common(self, envelope: Envelope, document: documents.Document) -> dict[str, Any]:
        return {
            "envelope": envelope.text(),
            "sha256": _digest(envelope),
            "issued_at": document.issued,
            "expires_at": document.expires,
            "uploaded_by": self.actor,
            "uploaded_at": self.now,
        }


def _digest(envelope: Envelope) -> str:
    return hashlib.sha256(envelope.text().encode()).hexdigest()


def _version(product: str, label: str) -> Version:
    version = Version.objects.select_related("product").filter(product__slug=product, label=label).first()
    if version is None:
        text = _("The media library has no %(product)s %(label)s.") % {"product": product, "label": label}
        raise InvalidInput(text, field="envelopes", code="wrong_version")
    return version


def _files(version: Version) -> tuple[documents.File, ...]:
    return tuple(sorted(documents.File(a.filename, a.size, a.sha256) for a in version.artifacts.all()))


def judge_again() -> list[str]:
    """Judges every manifest and decision by the trusted key set, and by the files as they are registered now.

    Returns those that do not count, with the reason. What does not count is no longer offered.
    """
    trusted = trusted_key_set()
    manifests = ReleaseManifest.objects.select_related("version__product").prefetch_related("version__artifacts")
    decisions = RollbackDecision.objects.select_related("from_version__product", "to_version")
    return [*_judge(manifests, trusted), *_judge(decisions, trusted)]


def _judge(rows: Any, trusted: documents.KeySet | None) -> Iterable[str]:
    changed = []
    for row in rows.iterator(_ROWS):
        problem = _problem(row, trusted)
        good_until = None if problem or trusted is None else min(row.expires_at, trusted.expires)
        if problem:
            yield f"{row}: {problem}"
        if (row.is_trusted, row.good_until) != (not problem, good_until):
            row.is_trusted, row.good_until = not problem, good_until
            changed.append(row)
    rows.model.objects.bulk_update(changed, ["is_trusted", "good_until"], batch_size=_ROWS)


def _problem(row: Any, trusted: documents.KeySet | None) -> str:
    """Why an envelope does not count; empty: it does."""
    if trusted is None:
        return _("there is no trusted key set")
    try:
        document = check(Envelope.from_json(row.envelope), trusted)
    except Untrusted as error:
        return f"{error.code}: {error}"
    if isinstance(document, documents.Release) and document.files != _files(row.version):
        return _("the media library has other files")
    return ""


def signed_versions(version_ids: Iterable[int], *, now: datetime) -> dict[int, bool]:
    """Which of these versions have a trusted manifest; the value says whether one is still good for new installs."""
    rows = ReleaseManifest.objects.filter(version__in=list(version_ids), is_trusted=True)
    found: dict[int, bool] = {}
    for version, good_until in rows.values_list("version", "good_until"):
        found[version] = found.get(version, False) or (good_until is not None and good_until > now)
    return found


def signed_ways_back(version_ids: Iterable[int], *, until: datetime) -> set[tuple[int, int | None]]:
    """The ways back from these versions (from, to; None: removal) whose decision is good beyond that time."""
    rows = RollbackDecision.objects.filter(from_version__in=list(version_ids), good_until__gt=until)
    return set(rows.values_list("from_version", "to_version"))


def request_for(
    title: str, *, versions: Iterable[Version], ways_back: Iterable[tuple[Version, Version | None]], now: datetime
) -> dict[str, Any]:
    """The request file for the key holder: manifests of `versions`, and the decisions for `ways_back` (from, to).

    A version without a counter gets the next ones of its product, the older version the lower one.
    """
    versions, ways_back = list(versions), list(ways_back)
    # What has no file cannot be signed yet.
    unknown = {v.pk for v in versions if v.state == Version.State.DRAFT or not v.artifacts.all()}
    versions = sorted((v for v in versions if v.pk not in unknown), key=lambda v: (v.product.slug, v.order))
    ways_back = [pair for pair in ways_back if not unknown & {v.pk for v in pair if v is not None}]
    counters = propose_counters(versions)
    manifests = [_asked_manifest(version, counters[version.pk]) for version in versions]
    counters |= propose_counters([v for pair in ways_back for v in pair if v is not None and v.counter is not None])
    decisions = [
        {
            "kind": "rollback",
            "product": origin.product.slug,
            "from": {"version": origin.label, "counter": counters[origin.pk]},
            "to": {"version": target.label, "counter": counters[target.pk]} if target is not None else None,
        }
        for origin, target in ways_back
    ]
    return {
        "schema": 1,
        "kind": "request",
        "for": title,
        "made": documents.write_time(now),
        "documents": [*manifests, *decisions],
    }


def propose_counters(versions: Iterable[Version]) -> dict[int, int]:
    """The counter of each version; one without gets the next of its product, in the order given."""
    versions = list(versions)
    counters = {version.pk: version.counter for version in versions if version.counter is not None}
    new = [version for version in versions if version.counter is None]
    given = Version.objects.filter(product__in={version.product_id for version in new}, counter__isnull=False)
    highest = dict(given.order_by().values_list("product").annotate(Max("counter"))) if new else {}
    for version in new:
        counters[version.pk] = highest[version.product_id] = highest.get(version.product_id, 0) + 1
    return counters


def _asked_manifest(version: Version, counter: int) -> dict[str, Any]:
    return {
        "kind": "release",
        "product": version.product.slug,
        "version": version.label,
        "counter": counter,
        "artifacts": [file.to_json() for file in _files(version)],
    }
