"""One version to one CI or group in one call: by a standard change at once, by an RFC when its gates are open."""

from io import BytesIO
from typing import Any

import pytest
from rest_framework.test import APIClient

from changes import standard
from changes.models import Change, StandardTemplate
from changes.services import edit_change, has_valid_approval
from cmdb.groups import add_members, create_group
from cmdb.models import AgentProfile, ConfigurationItem
from distribution.models import Deployment
from releases import services
from releases.models import Release, Rollout, TestRun
from signing.envelope import Envelope
from software.models import Format, Version
from software.services import store_artifact
from software.signatures import accept_envelopes
from test_environments.models import TestEnvironment
from tests.factories import make_ci, make_product, make_user, make_version
from tests.releases.world import BIG_BANG, World, state
from tests.signing.holder import Holder
from tickets.exceptions import ConditionRefused, DomainError, InvalidInput, PermissionRefused, SeparationOfDuties

pytestmark = pytest.mark.django_db


class Scene:
    """A group of two CIs, a standard change for it that the CAB has approved, and a pipeline that may use it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.one, self.two, self.other = world.add_cis(3)
        self.group = create_group(actor=None, now=world.now, name="Canaries", static_members=[self.one, self.two])
        self.max, self.cab = make_user("max", "change manager"), make_user("cab", "CAB member")
        self.pipeline = make_user("pipeline", "deployment pipeline", is_service_account=True)
        self.template = standard.write_template(
            actor=self.max, now=world.now, name="Billing on canaries", implementation_plan="Deploy.",
            backout_plan="Roll back.", products=[world.billing], groups=[self.group], users=[self.pipeline],
            needs_test=False,
        )  # fmt: skip
        standard.approve_template(self.template, actor=self.cab, now=world.now)

    def edit(self, **values: Any) -> None:
        """Another content of the template, approved again."""
        standard.edit_template(self.template, actor=self.max, now=self.world.now, **values)
        standard.approve_template(self.template, actor=self.cab, now=self.world.now)

    def deploy(self, **values: Any) -> Any:
        values = {"actor": self.pipeline, "now": self.world.now, "version": self.world.new, **values}
        if "ci" not in values and "group" not in values:
            values["group"] = self.group
        if "change" not in values:
            values.setdefault("template", self.template)
        return services.deploy(**values)

    def refused(self, **values: Any) -> DomainError:
        """What the order is refused with; nothing was made."""
        before = (Release.objects.count(), Change.objects.count(), Rollout.objects.count())
        with pytest.raises(DomainError) as refusal:
            self.deploy(**values)
        assert (Release.objects.count(), Change.objects.count(), Rollout.objects.count()) == before
        return refusal.value


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world)


def test_a_standard_change_deploys_to_a_group_at_once(scene: Scene) -> None:
    ordered = scene.deploy(reason="Nightly build")
    change, release = ordered.change, ordered.release
    assert (change.change_type, state(change), change.template) == ("standard", "implementing", scene.template)
    assert (state(release), release.created_by) == ("deploying", scene.pipeline)
    assert {approval.approver for approval in release.approvals.all()} == {scene.cab}
    assert has_valid_approval(change)
    scene.world.pass_time(40, 110)
    assert state(ordered.rollout) == "completed"
    assert scene.world.runs() == {"srv-1": "2.0", "srv-2": "2.0", "srv-3": "1.0"}


def test_who_joins_the_group_afterwards_gets_nothing(scene: Scene) -> None:
    """What a device reports may put it into a group; it must not decide whether a standard change is for it."""
    group = create_group(actor=None, now=scene.world.now, name="North", filter={"owner": ["rita"]})
    ConfigurationItem.objects.filter(pk=scene.one.pk).update(owner=scene.world.rita)
    scene.edit(groups=[group], most_cis=1)
    scene.deploy(group=group)
    ConfigurationItem.objects.filter(pk=scene.other.pk).update(owner=scene.world.rita)
    scene.world.pass_time(40, 110)
    assert scene.world.runs() == {"srv-1": "2.0", "srv-2": "1.0", "srv-3": "1.0"}


def test_one_ci_alone_gets_it(scene: Scene) -> None:
    scene.deploy(ci=scene.two)
    scene.world.tick()
    assert list(Deployment.objects.values_list("ci__name", flat=True)) == [scene.two.name]


def test_a_product_that_is_not_there_yet_is_installed_only_if_said(scene: Scene) -> None:
    bare = make_ci("bare", agent_id="bare")
    add_members(scene.group, actor=None, now=scene.world.now, cis=[bare])
    scene.edit()
    assert scene.refused(ci=bare).code == "no_target"
    assert scene.deploy(ci=bare, is_fresh=True).release.targets["fresh"] == {str(bare.pk): [scene.world.billing.pk]}
    scene.world.tick()
    assert Deployment.objects.get().ci == bare


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (lambda s: {"ci": s.other}, "template_scope"),
        (lambda s: {"actor": s.world.sven}, "permission_refused"),
        (lambda s: {"actor": s.world.erik}, "permission_refused"),
        (lambda s: {"ci": s.one, "group": s.group}, "invalid"),
        (lambda s: {"ci": None, "group": None}, "invalid"),
        (lambda s: {"template": None}, "invalid"),
        (lambda s: {"change": s.world.change(), "template": s.template}, "invalid"),
        (lambda s: {"actor": make_user("otto", "deployment pipeline")}, "template_not_yours"),
    ],
)
def test_what_is_beyond_it_is_refused_and_nothing_is_made(scene: Scene, values: Any, code: str) -> None:
    given = values(scene)
    assert scene.refused(**given).code == code


def test_the_template_limits_product_number_and_use(scene: Scene) -> None:
    scene.edit(most_cis=1)
    assert scene.refused().code == "template_scope"
    scene.edit(most_cis=2, products=[make_product("other")])
    assert scene.refused().code == "template_scope"
    scene.edit(products=[scene.world.billing], is_active=False)
    assert scene.refused().code == "template_not_yours"
    scene.edit(is_active=True)
    assert scene.deploy().rollout is not None


def test_a_template_that_says_something_else_now_is_not_approved(scene: Scene) -> None:
    standard.edit_template(scene.template, actor=scene.max, now=scene.world.now, most_cis=4000)
    assert scene.refused().code == "template_not_approved"
    standard.approve_template(scene.template, actor=scene.cab, now=scene.world.now)
    add_members(scene.group, actor=None, now=scene.world.now, cis=[scene.other])
    assert scene.refused().code == "template_not_approved"
    standard.approve_template(scene.template, actor=scene.cab, now=scene.world.now)
    standard.reject_template(scene.template, actor=scene.cab, now=scene.world.now, comment="Too much broke.")
    assert scene.refused().code == "template_not_approved"


def test_nobody_approves_a_template_that_he_wrote_edited_or_uses(scene: Scene) -> None:
    both = make_user("both", "CAB member", "change manager", "deployment pipeline")
    pipeline = make_user("robot", "CAB member", is_service_account=True)
    now = scene.world.now
    standard.edit_template(scene.template, actor=both, now=now, users=[both, scene.pipeline])
    standard.edit_template(scene.template, actor=scene.max, now=now, description="x")
    for person in (both, pipeline):
        with pytest.raises(SeparationOfDuties):
            standard.approve_template(scene.template, actor=person, now=now)
    with pytest.raises(PermissionRefused):
        standard.approve_template(scene.template, actor=scene.max, now=now)
    user = make_user("user", "CAB member", "deployment pipeline")
    standard.edit_template(scene.template, actor=scene.max, now=now, users=[user, scene.pipeline])
    standard.approve_template(scene.template, actor=user, now=now)
    assert scene.refused(actor=user).code == "separation_of_duties"
    assert scene.deploy().rollout is not None


def test_a_template_that_asks_for_a_test_takes_only_what_passed_one(scene: Scene) -> None:
    scene.edit(needs_test=True)
    assert scene.refused().code == "not_tested"
    now = scene.world.now
    tested = scene.world.ready(policy=BIG_BANG)
    environment = TestEnvironment.objects.create(source=scene.other, created_at=now, updated_at=now)
    values = {"release": tested, "environment": environment, "package_hash": "x", "started_by": scene.world.erik}
    times = {"soak_seconds": 1, "created_at": now, "updated_at": now, "finished_at": now}
    TestRun.objects.create(state="voided", **values, **times)
    assert scene.refused(left_out_reason="Later.").code == "not_tested"
    TestRun.objects.create(state="passed", **values, **times)
    ordered = scene.deploy(left_out_reason="That release has its own time.")
    assert ordered.rollout is not None
    assert tested.number in ordered.release.exceptions.get().reason


def test_other_planned_changes_are_left_out_only_with_a_reason(scene: Scene) -> None:
    change = scene.world.change()
    refusal = scene.refused()
    assert refusal.code == "left_out_reason_missing"
    assert change.number in refusal.message
    ordered = scene.deploy(left_out_reason="A hotfix.")
    assert ordered.release.left_out.get().reason == "A hotfix."


def test_an_rfc_waits_for_test_and_approval_and_starts_by_itself(scene: Scene) -> None:
    world, change = scene.world, scene.world.change()
    ordered = scene.deploy(change=change, ci=scene.one)
    release = ordered.release
    assert (ordered.rollout, ordered.waits_for, state(release)) == (None, "test", "built")
    world.tick()
    assert state(release) == "built"
    services.skip_test(release, actor=world.mona, now=world.now, reason="Tested by the vendor.")
    world.tick()
    release.refresh_from_db()
    assert services.waits_for(release) == "approval"
    scene.pipeline.groups.add(world.mona.groups.get())
    with pytest.raises(SeparationOfDuties):
        services.approve_release(release, actor=type(scene.pipeline).objects.get(pk=scene.pipeline.pk), now=world.now)
    services.approve_release(release, actor=world.mona, now=world.now)
    world.tick()
    rollout = release.rollouts.get()
    assert (rollout.started_by, state(release)) == (scene.pipeline, "deploying")
    world.pass_time(40, 1100)
    assert state(rollout) == "completed"


def test_an_order_that_cannot_start_says_why_once_and_stays(scene: Scene) -> None:
    world = scene.world
    release = scene.deploy(change=world.change(), ci=scene.one).release
    services.skip_test(release, actor=world.mona, now=world.now, reason="Tested by the vendor.")
    services.approve_release(release, actor=world.mona, now=world.now)
    ConfigurationItem.objects.filter(pk=scene.one.pk).update(lifecycle="in_repair")
    for _ in range(3):
        world.tick(1)
    assert release.entries.filter(text__contains="does not start").count() == 1
    ConfigurationItem.objects.filter(pk=scene.one.pk).update(lifecycle="in_operation")
    world.tick(1)
    assert state(release) == "deploying"


def test_an_order_whose_orderer_lost_his_right_does_not_start(scene: Scene) -> None:
    world = scene.world
    release = scene.deploy(change=world.change(), ci=scene.one).release
    services.skip_test(release, actor=world.mona, now=world.now, reason="Tested by the vendor.")
    services.approve_release(release, actor=world.mona, now=world.now)
    scene.pipeline.groups.clear()
    world.tick(1)
    assert state(release) == "ready"


def test_an_rfc_is_for_its_products_and_cis_only(scene: Scene) -> None:
    world = scene.world
    change = world.change()
    edit_change(change, actor=world.rita, now=world.now, affected_cis=[scene.two])
    Change.objects.filter(pk=change.pk).update(state="authorised")
    assert scene.refused(change=change, ci=scene.one).code == "rfc_scope"
    Change.objects.filter(pk=change.pk).update(state="draft")
    assert scene.refused(change=change, ci=scene.two).code == "invalid"
    other = world.change()
    other.products.clear()
    assert scene.refused(change=other, ci=scene.one).code == "rfc_scope"


def test_the_pipeline_orders_over_http_and_a_repetition_orders_nothing(scene: Scene) -> None:
    client = APIClient()
    client.force_authenticate(scene.pipeline)
    body = {"version": "billing/2.0", "group": scene.group.number, "standard_change": scene.template.number}
    answers = [client.post("/api/v1/deploy/", body, headers={"Idempotency-Key": "build-17"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["rollout"] == Rollout.objects.get().number
    assert client.post("/api/v1/deploy/", {**body, "standard_change": "TPL-999"}).status_code == 400
    client.force_authenticate(scene.world.olga)
    assert client.post("/api/v1/deploy/", body).status_code == 403


def test_templates_are_seen_by_those_who_see_changes_or_may_use_them(scene: Scene) -> None:
    seen = StandardTemplate.objects.visible_to
    assert seen(scene.pipeline).exists()
    assert seen(make_user("cora", "CAB member")).exists()
    requester = make_user("anna", "requester")
    assert not seen(requester).exists()
    scene.template.users.add(requester)
    assert seen(requester).exists()


def test_wrong_templates_are_refused(scene: Scene) -> None:
    now = scene.world.now
    with pytest.raises(InvalidInput):
        standard.write_template(actor=scene.max, now=now, name="x", implementation_plan=" ", backout_plan="y")
    with pytest.raises(InvalidInput):
        standard.write_template(
            actor=scene.max, now=now, name=scene.template.name, implementation_plan="x", backout_plan="y"
        )
    with pytest.raises(ConditionRefused):
        standard.use_template(scene.template, actor=scene.pipeline, now=now, products=[], cis=[])


# --- where signatures are required ----------------------------------------------------------------------
@pytest.fixture
def holder(scene: Scene, settings) -> Holder:
    found = Holder()
    settings.SIGNING_ROOT_KEYS = found.pins
    settings.REQUIRE_SIGNATURES = True
    take(scene, found.keys())
    return found


def take(scene: Scene, *envelopes: Envelope) -> None:
    accept_envelopes([envelope.text() for envelope in envelopes], actor=None, now=scene.world.now)


def request_of(scene: Scene, **values: Any) -> dict[str, Any]:
    order = {"version": scene.world.new, "group": scene.group, "template": scene.template, **values}
    return services.order_signing_request(actor=scene.pipeline, now=scene.world.now, **order)


def test_what_an_order_needs_signed_is_told_before_it_is_made(scene: Scene, holder: Holder) -> None:
    refusal = scene.refused()
    assert refusal.code == "signatures_missing"
    assert "/api/v1/deploy/signing_request/" in refusal.message
    assert "REL-" not in refusal.message, "there is no such release"
    before = (Release.objects.count(), Change.objects.count())
    request = request_of(scene)
    assert (Release.objects.count(), Change.objects.count()) == before
    assert [(d["kind"], d.get("version")) for d in request["documents"]] == [
        ("release", "1.0"), ("release", "2.0"), ("rollback", None),
    ]  # fmt: skip
    take(scene, *holder.answer(request))
    assert request_of(scene)["documents"] == []
    ordered = scene.deploy()
    scene.world.pass_time(40, 110)
    assert state(ordered.rollout) == "completed"


def test_the_pipeline_asks_for_it_over_http(scene: Scene, holder: Holder) -> None:
    client = APIClient()
    client.force_authenticate(scene.pipeline)
    order = {"version": "billing/2.0", "group": scene.group.number, "standard_change": scene.template.number}
    answer = client.post("/api/v1/deploy/signing_request/", order)
    assert (answer.status_code, len(answer.json()["documents"])) == (200, 3), answer.content
    assert answer.json()["for"] == "Billing 2.0 for Canaries"
    client.force_authenticate(make_user("otto", "operator"))
    assert client.post("/api/v1/deploy/signing_request/", order).status_code == 403


def test_devices_with_swupdate_are_ordered_for_too(scene: Scene, holder: Holder) -> None:
    """They get the image, close after their restart, and need the ways back signed as all others do."""
    profile, _ = AgentProfile.objects.update_or_create(
        name="SWUpdate",
        defaults={"proof": AgentProfile.Proof.CLOSED, "takes": Format.SWU, "can_remove": False, "can_wait": False},
    )
    ConfigurationItem.objects.update(agent_profile=profile)
    assert scene.refused().code == "no_file"
    image = make_version(scene.world.billing, "2.1", state=Version.State.DRAFT)
    store_artifact(image, actor=None, now=scene.world.now, filename="billing-2.1.swu", stream=BytesIO(b"image"))
    assert scene.refused(version=image).code == "signatures_missing"
    take(scene, *holder.answer(request_of(scene, version=image)))
    ordered = scene.deploy(version=image)
    scene.world.pass_time(40, 110)
    assert state(ordered.rollout) == "completed"
    assert scene.world.runs() == {"srv-1": "2.1", "srv-2": "2.1", "srv-3": "1.0"}
