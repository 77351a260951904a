"""The channels of a version: which file goes to which agent."""

import io

import pytest

from cmdb.models import AgentProfile, ConfigurationItem
from distribution.channels.ddi import payload
from distribution.models import Deployment
from distribution.services import create_batch, queue_deployments
from releases.services import build_release
from releases.targets import with_too_many_files, without_file
from software.models import Format, Product, Version
from software.services import store_artifact
from tests.factories import NOW, make_ci, make_product, make_version
from tests.releases.world import World
from tickets.exceptions import ConditionRefused

pytestmark = pytest.mark.django_db


def stored(product: Product, label: str, *names: str) -> Version:
    version = make_version(product, label, state=Version.State.DRAFT)
    for name in names:
        content = io.BytesIO(f"{label} {name}".encode())
        store_artifact(version, actor=None, now=NOW, filename=name, stream=content, more=name != names[-1])
    return version


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("billing.tar.gz", Format.ARCHIVE),
        ("billing", Format.ARCHIVE),
        ("billing.SWU", Format.SWU),
        ("billing.raucb", Format.RAUC),
        ("billing.role.tar.gz", Format.ANSIBLE_ROLE),
    ],
)
def test_the_ending_tells_the_format(name: str, wanted: str) -> None:
    assert stored(make_product(), "1.0", name).artifacts.get().format == wanted


def test_a_given_format_counts_more_than_the_ending() -> None:
    version = make_version(make_product(), "1.0", state=Version.State.DRAFT)
    content = io.BytesIO(b"x")
    store_artifact(version, actor=None, now=NOW, filename="role.tar.gz", stream=content, format=Format.ANSIBLE_ROLE)
    assert version.artifacts.get().format == "ansible_role"


def test_a_version_with_several_files_is_ready_with_the_last_one_and_then_fixed() -> None:
    version = make_version(make_product(), "1.0", state=Version.State.DRAFT)
    store_artifact(version, actor=None, now=NOW, filename="a.tar.gz", stream=io.BytesIO(b"a"), more=True)
    version.refresh_from_db()
    assert version.state == "draft"
    store_artifact(version, actor=None, now=NOW, filename="a.swu", stream=io.BytesIO(b"b"))
    version.refresh_from_db()
    assert version.state == "ready"
    with pytest.raises(ConditionRefused, match="never changes"):
        store_artifact(version, actor=None, now=NOW, filename="a.raucb", stream=io.BytesIO(b"c"))


def test_the_last_file_may_be_said_afterwards_by_sending_one_again() -> None:
    version = make_version(make_product(), "1.0", state=Version.State.DRAFT)
    for more in (True, False):
        store_artifact(version, actor=None, now=NOW, filename="a.tar.gz", stream=io.BytesIO(b"a"), more=more)
    version.refresh_from_db()
    assert version.state == "ready"


def offered_files(ci: ConfigurationItem, version: Version) -> list[str]:
    batch = create_batch(label="ROL-0000001", purpose="forward", now=NOW)
    fresh = {ci.pk: [version.product_id]}
    queue_deployments(batch, ci_ids=[ci.pk], package=[(version.product_id, version.pk, 1)], fresh=fresh, now=NOW)
    body = payload.deployment("http://portal/x", Deployment.objects.get(ci=ci), ci, 0, NOW)
    (chunk,) = body["deployment"]["chunks"]
    return [artifact["filename"] for artifact in chunk["artifacts"]]


def test_each_agent_is_offered_the_file_of_the_format_that_it_takes() -> None:
    version = stored(make_product(), "1.0", "billing.tar.gz", "billing.swu")
    swupdate = AgentProfile.objects.create(name="swupdate", takes=Format.SWU)
    assert offered_files(make_ci("plain", agent_id="plain"), version) == ["billing.tar.gz"]
    assert offered_files(make_ci("image", agent_id="image", agent_profile=swupdate), version) == ["billing.swu"]


def test_a_package_without_a_file_for_one_of_its_targets_is_not_built() -> None:
    world = World()
    fits, unfit = world.add_ci("fits"), world.add_ci("unfit")
    release = world.draft(world.new)
    assert not without_file(release).exists()

    profile = AgentProfile.objects.create(name="swupdate", takes=Format.SWU)
    ConfigurationItem.objects.filter(pk=unfit.pk).update(agent_profile=profile)
    assert list(without_file(release)) == [unfit]
    with pytest.raises(ConditionRefused, match="unfit") as refusal:
        build_release(release, actor=world.erik, now=world.now)
    assert (refusal.value.code, fits.name in refusal.value.message) == ("no_file", False)


def test_a_package_of_several_files_is_not_built_for_an_agent_that_takes_one() -> None:
    world = World()
    plain, single = world.add_ci("plain"), world.add_ci("single")
    profile = AgentProfile.objects.create(name="rauc", one_file_only=True)
    ConfigurationItem.objects.filter(pk=single.pk).update(agent_profile=profile)
    release = world.draft(world.new)
    assert not with_too_many_files(release).exists()

    several = stored(world.billing, "3.0", "a.tar.gz", "b.tar.gz")
    release = world.draft(several)
    assert list(with_too_many_files(release)) == [single]
    with pytest.raises(ConditionRefused, match="single") as refusal:
        build_release(release, actor=world.erik, now=world.now)
    assert (refusal.value.code, plain.name in refusal.value.message) == ("too_many_files", False)
