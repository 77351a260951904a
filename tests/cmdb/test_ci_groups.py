"""Groups: named CIs, CIs that fit a filter, or both; copies for tests never."""

import fnmatch
from typing import Any

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import Team
from cmdb.group_filter import check_filter
from cmdb.groups import add_members, create_group, definition_digest, edit_group, remove_members
from cmdb.models import CIClass, CIGroup, ConfigurationItem, InstalledVersion
from tests.factories import NOW, make_ci, make_product, make_user, make_version
from tickets.exceptions import InvalidInput, PermissionRefused

NAMES = ["srv-1", "srv-22", "SRV-3", "plant.a", "plant_a", "a+b", "100%", "x"]
OWNERS = [None, "anna", "ben"]
REGIONS = [None, "north", "south"]


def group(**values: Any) -> CIGroup:
    return create_group(actor=None, now=NOW, **{"name": "Group", **values})


def names(found: CIGroup) -> set[str]:
    return set(found.members().values_list("name", flat=True))


@pytest.mark.django_db
def test_an_empty_group_has_no_member() -> None:
    make_ci("srv-1")
    assert names(group()) == set()


@pytest.mark.django_db
def test_named_cis_belong_to_it_whatever_the_filter_says() -> None:
    one, two = make_ci("srv-1"), make_ci("srv-2", lifecycle="retired")
    found = group(static_members=[two], filter={"lifecycle": ["in_operation"]})
    assert names(found) == {"srv-1", "srv-2"}
    remove_members(found, actor=None, now=NOW, cis=[one, two])
    assert names(found) == {"srv-1"}
    add_members(found, actor=None, now=NOW, cis=[one, two])
    assert found.contains(one)
    assert found.contains(two)


@pytest.mark.django_db
def test_a_copy_is_never_a_member() -> None:
    source = make_ci("srv-1")
    copy = make_ci("srv-1-copy", copy_of=source)
    found = group(filter={"name": "srv-*"})
    found.static_members.add(copy)  # however it came in
    assert names(found) == {"srv-1"}
    assert not found.contains(copy)
    with pytest.raises(InvalidInput, match="srv-1-copy"):
        add_members(found, actor=None, now=NOW, cis=[copy])


@pytest.mark.django_db
def test_what_it_runs_now_decides() -> None:
    product = make_product("erp")
    version = make_version(product, "2.0")
    for number, (label, ended) in enumerate([("2.0", None), ("1.0", None), ("2.0", NOW)]):
        InstalledVersion.objects.create(
            ci=make_ci(f"srv-{number}"), product=product, label=label, version=version if label == "2.0" else None,
            valid_from=NOW, valid_to=ended,
        )  # fmt: skip
    found = group(filter={"runs": ["erp/2.0"]})
    assert names(found) == {"srv-0"}
    edit_group(found, actor=None, now=NOW, filter={"runs": ["erp", "nothing/1"]})
    assert names(found) == {"srv-0", "srv-1"}


@pytest.mark.django_db
def test_asking_for_the_members_is_one_query(django_assert_num_queries) -> None:
    found = group(static_members=[make_ci("srv-1")], filter={"name": "srv*", "attributes": {"a": "b"}, "runs": "erp"})
    with django_assert_num_queries(1):
        assert list(found.members())


@pytest.mark.parametrize(
    "wrong",
    [
        [], "x", {"colour": ["red"]}, {"name": []}, {"name": [1]}, {"name": [""]}, {"name": "x" * 129},
        {"name": ["a\nb"]}, {"runs": ["x"] * 101}, {"attributes": []}, {"attributes": {}},
        {"attributes": {"k": {"deep": "x"}}}, {"attributes": {str(n): "x" for n in range(11)}}, {"owner": None},
    ],
)  # fmt: skip
def test_a_filter_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_filter(wrong)
    assert (refused.value.field, refused.value.code) == ("filter", "filter_invalid")


@pytest.mark.django_db
def test_a_group_needs_the_right_and_a_name_of_its_own() -> None:
    found = group()
    outsider = make_user("otto", "release engineer")
    for call in (
        lambda: create_group(actor=outsider, now=NOW, name="Other"),
        lambda: edit_group(found, actor=outsider, now=NOW, name="Other"),
        lambda: add_members(found, actor=outsider, now=NOW, cis=[]),
        lambda: remove_members(found, actor=outsider, now=NOW, cis=[]),
    ):
        with pytest.raises(PermissionRefused):
            call()
    with pytest.raises(InvalidInput) as refused:
        group()
    assert refused.value.field == "name"


@pytest.mark.django_db
def test_the_digest_is_that_of_the_definition() -> None:
    ci = make_ci("srv-1")
    found = group(filter={"name": "srv*"})
    before = definition_digest(found)
    edit_group(found, actor=None, now=NOW, name="Renamed", description="x")
    assert definition_digest(found) == before
    add_members(found, actor=None, now=NOW, cis=[ci])
    named = definition_digest(found)
    edit_group(found, actor=None, now=NOW, filter={"name": "srv-?"})
    assert len({before, named, definition_digest(found)}) == 3


@pytest.mark.django_db
def test_the_form_makes_and_shows_the_whole_filter() -> None:
    admin = make_user("adam", "administrator")
    Team.objects.create(name="Plant 1")
    make_ci("srv-1", owner=admin, attributes={"region": "north"})
    make_ci("srv-2")
    client = Client()
    client.force_login(admin)
    typed = {
        "name": "North", "description": "", "static_members": "srv-2", "ci_class": ["server"], "patterns": "srv-*\nx",
        "lifecycle": ["in_operation"], "owner": ["adam"], "attributes": "region = north\nregion = south",
    }  # fmt: skip
    answer = client.post("/cis/groups/new/", typed)
    found = CIGroup.objects.get()
    assert answer["Location"] == f"/cis/groups/{found.number}/"
    assert found.filter == {
        "ci_class": ["server"], "lifecycle": ["in_operation"], "name": ["srv-*", "x"], "owner": ["adam"],
        "attributes": {"region": ["north", "south"]},
    }  # fmt: skip
    assert names(found) == {"srv-1", "srv-2"}
    page = client.get(f"/cis/groups/{found.number}/edit/").content.decode()
    assert "region = south" in page
    assert client.post(f"/cis/groups/{found.number}/edit/", {"name": "All", "attributes": "x"}).status_code == 400
    client.post(f"/cis/groups/{found.number}/edit/", {"name": "Named", "static_members": "srv-2"})
    found.refresh_from_db()
    assert (found.name, found.filter, names(found)) == ("Named", {}, {"srv-2"})
    assert "srv-1" not in client.get(f"/cis/?group={found.pk}").content.decode()


@pytest.mark.django_db
def test_groups_are_for_those_who_see_every_ci() -> None:
    found = group(static_members=[make_ci("srv-1", owner=make_user("anna", "requester"))])
    anna = ConfigurationItem.objects.get().owner
    client = Client()
    client.force_login(anna)
    assert client.get("/cis/groups/").status_code == 403
    assert client.get(f"/cis/groups/{found.number}/").status_code == 404


patterns = st.text(alphabet="srv-123a.+%_x*?[]\\(", min_size=1, max_size=6)
filters = st.fixed_dictionaries(
    {},
    optional={
        "lifecycle": st.lists(st.sampled_from(["in_operation", "retired"]), min_size=1),
        "ci_class": st.lists(st.sampled_from(["server", "desktop", "none"]), min_size=1),
        "owner": st.lists(st.sampled_from(["anna", "ben", "nobody"]), min_size=1),
        "name": st.lists(patterns, min_size=1, max_size=2),
        "attributes": st.fixed_dictionaries({"region": st.lists(st.sampled_from(["north", "south"]), min_size=1)}),
    },
)
one_ci = st.tuples(
    st.sampled_from(NAMES), st.sampled_from(["in_operation", "retired"]), st.sampled_from(["server", "desktop"]),
    st.sampled_from(OWNERS), st.sampled_from(REGIONS), st.booleans(), st.booleans(),
)  # fmt: skip


def fits(found: dict[str, Any], ci: ConfigurationItem) -> bool:
    """The filter again, in plain Python."""

    def matches(pattern: str) -> bool:
        return fnmatch.fnmatchcase(ci.name.lower(), pattern.lower().replace("[", "[[]"))

    facts = {
        "lifecycle": lambda values: ci.lifecycle in values,
        "ci_class": lambda values: ci.ci_class.slug in values,
        "owner": lambda values: ci.owner is not None and ci.owner.username in values,
        "name": lambda values: any(map(matches, values)),
        "attributes": lambda values: ci.attributes.get("region") in values["region"],
    }
    return bool(found) and all(facts[name](values) for name, values in found.items())


class AnyFilter(TestCase):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(one_ci, unique_by=lambda row: row[0], max_size=8), filters)
    def test_the_database_finds_what_plain_python_finds(self, rows: list[Any], found: dict[str, Any]) -> None:
        owners = {name: make_user(name) for name in OWNERS if name}
        classes = {slug: CIClass.objects.create(slug=slug, name=slug) for slug in ("server", "desktop")}
        source = make_ci("source of copies", lifecycle="planned", ci_class=CIClass.objects.create(slug="c", name="c"))
        cis, named = [], []
        for name, lifecycle, slug, owner, region, is_copy, is_named in rows:
            ci = make_ci(
                name, lifecycle=lifecycle, ci_class=classes[slug], owner=owners.get(owner),
                attributes={"region": region} if region else {}, copy_of=source if is_copy else None,
            )  # fmt: skip
            cis.append(ci)
            named += [ci] if is_named and not is_copy else []
        made = group(filter=found, static_members=named)
        expected = {ci.name for ci in cis if ci.copy_of is None and (ci in named or fits(found, ci))}
        assert names(made) == expected
        assert {ci.name for ci in cis if made.contains(ci)} == expected
