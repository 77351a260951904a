"""What runs where, since when, and what it replaced."""

from datetime import timedelta

import pytest

from cmdb.impact import dependencies_of
from cmdb.models import InstalledVersion, Relation
from cmdb.services import record_installed, record_removed
from tests.factories import NOW, make_ci, make_product, make_version

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)


def test_a_new_version_replaces_the_one_before() -> None:
    ci, version = make_ci(), make_version(label="1.0")
    new = make_version(version.product, "2.0")
    first = record_installed(ci, product=version.product, label="1.0", now=NOW)
    second = record_installed(ci, product=version.product, label="2.0", now=LATER, source="ROL-0000001")

    assert first is not None
    assert second is not None
    first.refresh_from_db()
    assert (first.version, first.valid_from, first.valid_to) == (version, NOW, LATER)
    assert (second.version, second.replaced, second.valid_to, second.source) == (new, first, None, "ROL-0000001")


def test_the_same_again_is_no_change() -> None:
    ci, version = make_ci(), make_version(label="1.0")
    assert record_installed(ci, product=version.product, label="1.0", now=NOW)
    assert record_installed(ci, product=version.product, label="1.0", now=LATER, is_drift=True) is None
    row = InstalledVersion.objects.get()
    assert (row.valid_from, row.is_drift) == (NOW, False)


def test_a_label_that_the_media_library_learns_later_gets_its_version() -> None:
    ci, product = make_ci(), make_product()
    assert record_installed(ci, product=product, label="3.0", now=NOW).version is None  # type: ignore[union-attr]
    version = make_version(product, "3.0")
    assert record_installed(ci, product=product, label="3.0", now=LATER) is None
    assert InstalledVersion.objects.get().version == version


def test_removal_ends_the_version_and_may_be_repeated() -> None:
    ci, version = make_ci(), make_version(label="1.0")
    record_installed(ci, product=version.product, label="1.0", now=NOW)
    ended = record_removed(ci, product=version.product, now=LATER)
    assert ended is not None
    assert ended.valid_to == LATER
    assert record_removed(ci, product=version.product, now=LATER) is None
    assert InstalledVersion.objects.get().valid_to == LATER


def test_dependencies_are_followed_nearest_first_and_circles_end() -> None:
    web, app, database, disk, far = [make_ci(name) for name in ("web", "app", "database", "disk", "far")]
    chain = [(web, app), (app, database), (database, disk), (disk, far), (database, web), (web, database)]
    for source, target in chain:
        Relation.objects.create(source=source, target=target)

    assert dependencies_of(web.pk) == [app.pk, database.pk, disk.pk, far.pk]
    assert dependencies_of(web.pk, depth=1) == [app.pk, database.pk]
    assert dependencies_of(web.pk, depth=0) == []
    assert dependencies_of(far.pk) == []
    assert dependencies_of(app.pk, depth=9) == [database.pk, web.pk, disk.pk, far.pk]


def test_a_report_that_is_written_late_makes_no_time_run_backwards() -> None:
    ci, version = make_ci(), make_version(label="1.0")
    record_installed(ci, product=version.product, label="1.0", now=LATER)
    record_installed(ci, product=version.product, label="2.0", now=NOW)
    removed = record_removed(ci, product=version.product, now=NOW)
    assert removed is not None
    assert [(row.valid_from, row.valid_to) for row in InstalledVersion.objects.all()] == [(LATER, LATER)] * 2
