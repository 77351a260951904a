"""A device that changes its version to and fro: the record stays bounded, and what it says stays true."""

from datetime import datetime, timedelta

import pytest

from cmdb.drift import accept_drift
from cmdb.models import ConfigurationItem, Drift, InstalledVersion
from cmdb.services import record_installed, record_removed
from software.models import Product
from tests.factories import NOW, make_ci, make_product, make_version

pytestmark = pytest.mark.django_db
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def ci() -> ConfigurationItem:
    return make_ci()


@pytest.fixture
def product() -> Product:
    version = make_version(label="1.0")
    make_version(version.product, "2.0")
    return version.product


def tell(ci: ConfigurationItem, product: Product, label: str | None, now: datetime, *, is_drift: bool = True) -> None:
    if label is None:
        record_removed(ci, product=product, now=now)
    else:
        record_installed(ci, product=product, label=label, now=now, is_drift=is_drift, is_told=True)


def rows() -> list[InstalledVersion]:
    return list(InstalledVersion.objects.order_by("id"))


def labels() -> list[str]:
    return [row.label for row in rows()]


@pytest.mark.slow
def test_ten_changes_a_day_are_kept_each_and_more_are_counted(ci: ConfigurationItem, product: Product) -> None:
    for n in range(10):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    assert labels() == ["1.0", "2.0"] * 5
    for n in range(10, 501):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)

    *before, folded, current = rows()
    assert len(before) == 8
    assert [row.changes for row in before] == [1] * 8
    assert (current.label, current.valid_from, current.valid_to) == ("1.0", NOW + 500 * SECOND, None)
    assert current.version is not None
    assert current.version.label == "1.0"
    assert (folded.label, folded.changes, folded.valid_to) == ("2.0", 492, current.valid_from)
    assert current.replaced == folded
    assert sum(row.changes for row in rows()) == 501, "each change is counted once"


def test_the_record_has_no_holes_and_no_overlaps(ci: ConfigurationItem, product: Product) -> None:
    for n in range(40):
        tell(ci, product, ("1.0", "2.0", "unknown")[n % 3], NOW + n * SECOND)
    found = rows()
    assert [row.valid_to for row in found[:-1]] == [row.valid_from for row in found[1:]]
    assert found[-1].valid_to is None


def test_a_day_later_changes_are_kept_again(ci: ConfigurationItem, product: Product) -> None:
    for n in range(30):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    tell(ci, product, "1.0", NOW + 2 * DAY)
    tell(ci, product, "2.0", NOW + 2 * DAY + SECOND)
    assert len(rows()) == 12
    assert [row.changes for row in rows()[-3:]] == [1, 1, 1]


def test_removing_and_installing_again_is_bounded_too(ci: ConfigurationItem, product: Product) -> None:
    for n in range(200):
        tell(ci, product, ("1.0", None)[n % 2], NOW + n * SECOND)
    assert len(rows()) == 10
    assert not InstalledVersion.objects.filter(valid_to=None).exists(), "the last that was said: it is gone"
    tell(ci, product, "2.0", NOW + 200 * SECOND)
    assert [row.label for row in rows() if row.valid_to is None] == ["2.0"]


def test_what_a_deployment_brought_is_never_folded(ci: ConfigurationItem, product: Product) -> None:
    for n in range(30):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    brought = record_installed(ci, product=product, label="3.0", now=NOW + 31 * SECOND, source="ROL-0000001")
    assert brought is not None
    for n in range(32, 60):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    brought.refresh_from_db()
    assert (brought.label, brought.source, brought.changes) == ("3.0", "ROL-0000001", 0)
    assert (brought.valid_from, brought.valid_to) == (NOW + 31 * SECOND, NOW + 32 * SECOND)
    assert len(rows()) == 13


@pytest.mark.slow
def test_a_version_a_day_is_kept_for_a_year_and_not_for_ever(ci: ConfigurationItem, product: Product) -> None:
    for n in range(500):
        tell(ci, product, f"1.{n}", NOW + n * DAY / 2)
    assert len(rows()) == 400
    assert rows()[-1].label == "1.499"


def test_each_product_counts_for_itself(ci: ConfigurationItem, product: Product) -> None:
    other = make_version(make_product("receipts"), "7").product
    for n in range(20):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    tell(ci, other, "7", NOW + 21 * SECOND)
    tell(ci, other, "8", NOW + 22 * SECOND)
    assert InstalledVersion.objects.filter(product=other).count() == 2


def test_drifts_are_bounded_and_the_last_word_is_right(ci: ConfigurationItem, product: Product) -> None:
    record_installed(ci, product=product, label="1.0", now=NOW, source="ROL-0000001")
    for n in range(1, 201):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    assert Drift.objects.count() < 10
    assert not Drift.objects.filter(ended_at=None).exists()
    assert not InstalledVersion.objects.get(valid_to=None).is_drift

    tell(ci, product, "2.0", NOW + 201 * SECOND)
    drift = Drift.objects.get(ended_at=None)
    assert (drift.expected, drift.reported, drift.end) == ("1.0", "2.0", "")
    assert InstalledVersion.objects.get(valid_to=None).is_drift


def test_a_drift_that_a_person_accepted_is_not_taken_up_again(ci: ConfigurationItem, product: Product) -> None:
    for n in range(30):
        tell(ci, product, ("1.0", "2.0")[n % 2], NOW + n * SECOND)
    accept_drift(ci, actor=None, now=NOW + 30 * SECOND, product=product)
    tell(ci, product, "1.0", NOW + 31 * SECOND)
    accepted = Drift.objects.get(end=Drift.End.ACCEPTED)
    assert Drift.objects.get(ended_at=None).pk != accepted.pk
