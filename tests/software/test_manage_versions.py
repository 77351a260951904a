"""Products and versions: made, withdrawn, removed; kept while somebody needs them."""

import io
from pathlib import Path

import pytest

from cmdb.services import record_installed
from distribution.models import DeploymentItem
from distribution.services import create_batch, queue_deployments
from software.models import Product, Version
from software.services import create_product, create_version, remove_version, store_artifact, withdraw_version
from tests.factories import NOW, make_ci, make_product, make_user, make_version
from tickets.exceptions import ConditionRefused, InvalidInput, PermissionRefused

pytestmark = pytest.mark.django_db


def test_a_product_and_its_version() -> None:
    engineer = make_user("rita", "release engineer")
    product = create_product(actor=engineer, now=NOW, name="Billing", slug="billing")
    version = create_version(product, actor=engineer, now=NOW, label="2.0", notes="faster")
    version.refresh_from_db()
    assert (version.state, version.created_by, version.created_at) == ("draft", engineer, NOW)


@pytest.mark.parametrize(
    ("name", "slug", "field"),
    [("Billing", "other", "name"), ("Other", "billing", "slug"), ("Other", "not a slug", "slug"), ("", "x", "name")],
)
def test_a_product_that_exists_or_is_none_is_refused(name: str, slug: str, field: str) -> None:
    make_product("billing")
    with pytest.raises(InvalidInput) as refusal:
        create_product(actor=None, now=NOW, name=name, slug=slug)
    assert refusal.value.field == field


@pytest.mark.parametrize("label", ["1.0", "", "a b", "../x", "x" * 65, "-1"])
def test_a_version_that_exists_or_is_none_is_refused(label: str) -> None:
    product = make_version(label="1.0").product
    with pytest.raises(InvalidInput) as refusal:
        create_version(product, actor=None, now=NOW, label=label)
    assert refusal.value.field == "label"


def stored(product: Product, label: str, content: bytes = b"x") -> Version:
    version = make_version(product, label, state=Version.State.DRAFT)
    store_artifact(version, actor=None, now=NOW, filename="x.tar.gz", stream=io.BytesIO(content))
    return version


def test_withdrawing_may_be_repeated_and_leaves_installations() -> None:
    version, ci = make_version(label="1.0"), make_ci()
    record_installed(ci, product=version.product, label="1.0", now=NOW)
    assert withdraw_version(version, actor=None, now=NOW)
    assert not withdraw_version(version, actor=None, now=NOW)
    assert Version.objects.get().state == "withdrawn"
    assert not Version.objects.ready().exists()
    assert ci.installed_versions.get().version == version


def test_a_version_that_nobody_needs_goes_with_its_file(media: Path, django_capture_on_commit_callbacks) -> None:
    product = make_product()
    one, same = stored(product, "1.0"), stored(product, "1.0.1")
    path = Path(one.artifacts.get().file.path)
    with django_capture_on_commit_callbacks(execute=True):
        remove_version(one, actor=None)
    assert path.exists(), "another version has the same content"
    with django_capture_on_commit_callbacks(execute=True):
        remove_version(same, actor=None)
    assert not path.exists()
    assert not Version.objects.exists()


def test_a_version_that_runs_somewhere_is_kept_and_the_refusal_says_where(media: Path) -> None:
    version = stored(make_product(), "1.0")
    record_installed(make_ci(), product=version.product, label="1.0", now=NOW)
    with pytest.raises(ConditionRefused, match="1 installed versions") as refusal:
        remove_version(version, actor=None)
    assert refusal.value.code == "version_needed"
    assert "Withdraw it instead" in refusal.value.message
    assert Path(version.artifacts.get().file.path).exists()


def test_a_version_that_a_rollback_may_need_is_kept() -> None:
    product = make_product()
    old, new = stored(product, "1.0"), stored(product, "2.0", b"y")
    ci = make_ci()
    record_installed(ci, product=product, label="1.0", now=NOW)
    batch = create_batch(label="ROL-0000001", purpose="forward", now=NOW)
    queue_deployments(batch, ci_ids=[ci.pk], package=[(product.pk, new.pk, 1)], now=NOW)
    ci.installed_versions.all().delete()

    for version in (old, new):
        with pytest.raises(ConditionRefused, match="needed by"):
            remove_version(version, actor=None)
    DeploymentItem.objects.all().delete()
    remove_version(old, actor=None)


def test_it_needs_the_right() -> None:
    outsider, version = make_user("otto", "requester"), make_version()
    for call in (
        lambda: create_product(actor=outsider, now=NOW, name="x", slug="x"),
        lambda: create_version(version.product, actor=outsider, now=NOW, label="9"),
        lambda: withdraw_version(version, actor=outsider, now=NOW),
        lambda: remove_version(version, actor=outsider),
    ):
        with pytest.raises(PermissionRefused):
            call()
