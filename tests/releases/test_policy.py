"""Policies and target selectors: what is taken, what is refused, and that reading is exact."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.waves import REST, quota_of
from tickets.exceptions import InvalidInput
from tickets.services import content_hash

# Examples take as long as the machine likes.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECONDS = st.integers(1, 366 * 86400)
STEPS = st.lists(
    st.one_of(
        st.builds(lambda n: {"count": n}, st.integers(1, 10**6)),
        st.builds(lambda p: {"percent": p}, st.integers(1, 10)),
    ),
    max_size=10,
)
PHASED = st.fixed_dictionaries(
    {"strategy": st.just("phased"), "waves": STEPS.map(lambda steps: [*steps, {"rest": True}])},
    optional={
        "success_threshold": st.integers(1, 100),
        "error_threshold": st.integers(0, 100),
        "on_error": st.sampled_from(["pause", "rollback_wave", "rollback_all"]),
        "soak_seconds": SECONDS,
        "max_in_flight": st.none() | st.integers(1, 10**7),
        "max_downloads": st.none() | st.integers(1, 10**7),
        "offer_deadline": SECONDS,
        "overdue_counts_as": st.sampled_from(["failure", "skipped"]),
        "manual_gate": st.booleans(),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from([*RolloutPolicy.__dataclass_fields__, "nonsense"])


def read(kind: Any, data: Any) -> Any:
    """The policy or selector, or its refusal; anything else is a defect."""
    try:
        return kind.from_json(data)
    except InvalidInput as refused:
        return refused


@CALM
@given(PHASED)
def test_a_policy_is_read_and_written_without_loss(data: dict[str, Any]) -> None:
    policy = RolloutPolicy.from_json(data)
    written = policy.to_json()
    assert RolloutPolicy.from_json(json.loads(json.dumps(written))) == policy
    assert all(written[name] == value for name, value in data.items())


@CALM
@given(st.integers(1, 100), st.integers(1, 10**5))
def test_a_percentage_is_of_all_targets_and_rounded_up(percent: int, targets: int) -> None:
    (wave, _rest) = RolloutPolicy.from_json({"waves": [{"percent": percent}, {"rest": True}]}).waves
    assert quota_of(wave, targets) == math.ceil(targets * percent / 100)


@CALM
@given(JSON | st.dictionaries(FIELDS, JSON, max_size=3))
def test_whatever_comes_is_a_policy_or_refused(data: Any) -> None:
    policy = read(RolloutPolicy, data)
    if isinstance(policy, InvalidInput):
        assert policy.field == "policy"
        assert str(policy)
    else:
        assert RolloutPolicy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"strategy": "fast"},
        {"waves": []},
        {"waves": [{"count": 1}]},
        {"waves": [{"rest": True}, {"count": 1}]},
        {"waves": [{"rest": False}]},
        {"waves": [{"count": 0}, {"rest": True}]},
        {"waves": [{"count": True}, {"rest": True}]},
        {"waves": [{"count": 1.5}, {"rest": True}]},
        {"waves": [{"count": float("inf")}, {"rest": True}]},
        {"waves": [{"count": float("nan")}, {"rest": True}]},
        {"waves": [{"count": 10**400}, {"rest": True}]},
        {"waves": [{"percent": -(10**400)}, {"rest": True}]},
        {"waves": [{"percent": 0}, {"rest": True}]},
        {"waves": [{"percent": 60}, {"percent": 41}, {"rest": True}]},
        {"waves": [{"count": 1, "percent": 1}, {"rest": True}]},
        {"strategy": "big_bang", "waves": [{"count": 1}, {"rest": True}]},
        {"success_threshold": 0},
        {"success_threshold": 101},
        {"error_threshold": -1},
        {"soak_seconds": 0},
        {"soak_seconds": True},
        {"soak_seconds": "3"},
        {"offer_deadline": None},
        {"max_in_flight": 0},
        {"max_downloads": 0},
        {"manual_gate": 1},
        {"on_error": "ignore"},
        {"retry": {"codes": [f"e{n}" for n in range(51)], "attempts": 2, "backoff_seconds": 1}},
        {"overdue_counts_as": "success"},
        {"gate": True},
    ],
)
def test_an_incoherent_policy_is_refused_with_a_text(data: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        RolloutPolicy.from_json(data)
    assert (refused.value.field, refused.value.code) == ("policy", "policy_invalid")


def test_big_bang_is_one_wave_with_everybody() -> None:
    assert RolloutPolicy.from_json({"strategy": "big_bang"}).waves == (REST,)


IDS = st.lists(st.integers(1, 2**63 - 1), max_size=5)


@CALM
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ci_classes": st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=3),
            "cis": IDS,
            "exclude": IDS,
            "fresh": st.dictionaries(st.integers(1, 2**63 - 1).map(str), IDS, max_size=3),
        },
    )
)
def test_a_selector_has_one_canonical_form(data: dict[str, Any]) -> None:
    selector = TargetSelector.from_json(data)
    written = selector.to_json()
    assert TargetSelector.from_json(json.loads(json.dumps(written))) == selector
    reordered = {name: value[::-1] if isinstance(value, list) else value for name, value in data.items()}
    assert TargetSelector.from_json(reordered).to_json() == written


@CALM
@given(JSON | st.dictionaries(st.sampled_from(["ci_classes", "cis", "exclude", "fresh", "x"]), JSON, max_size=3))
def test_whatever_comes_is_a_selector_or_refused(data: Any) -> None:
    selector = read(TargetSelector, data)
    if isinstance(selector, InvalidInput):
        assert selector.field == "targets"
    else:
        assert all(0 < ci < 2**63 for ci in [*selector.cis, *selector.exclude, *selector.fresh])


@pytest.mark.parametrize(
    "data",
    [{"cis": "12"}, {"ci_classes": "server"}, {"cis": [1.5]}, {"cis": [0]}, {"cis": [2**63]}, {"cis": [True]},
     {"fresh": [[1, [2]]]}, {"fresh": {"one": [2]}}, {"fresh": {"1": "23"}}, {"all": True}],
)  # fmt: skip
def test_an_incoherent_selector_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        TargetSelector.from_json(data)
    assert (refused.value.field, refused.value.code) == ("targets", "targets_invalid")


@pytest.mark.parametrize(
    ("stored", "digest"),
    [
        ({}, "f96dbc0e9908375dd9ee7df13652c74455c9e0335dcc975192a46d1ac176c225"),
        (
            {
                "strategy": "phased",
                "waves": [{"count": 5}, {"percent": 12.5}, {"rest": True}],
                "success_threshold": 90,
                "on_error": "rollback_all",
                "mode": "soft",
                "force_after": 60,
                "max_downloads": 7,
            },
            "4021e4a3ba4d98c7afbd8e2664fa1ce46573fccd76634d33bdfa04d65f459886",
        ),
    ],
)
def test_the_approvals_of_older_plans_stay_valid(stored: dict[str, Any], digest: str) -> None:
    """Digests of the first version of a policy: a field that came later must not change them."""
    assert content_hash(RolloutPolicy.from_json(stored).to_json()) == digest


def test_a_newer_field_is_part_of_what_is_approved_as_soon_as_it_says_something() -> None:
    plain, counted = RolloutPolicy(), RolloutPolicy(error_count=3)
    assert "error_count" not in plain.to_json()
    assert content_hash(plain.to_json()) != content_hash(counted.to_json())
    assert RolloutPolicy.from_json(counted.to_json()) == counted


@pytest.mark.parametrize(
    "wave",
    [
        {"cis": []}, {"cis": [0]}, {"cis": ["1"]}, {"cis": [True]}, {"cis": 1}, {"ci_class": ""}, {"ci_class": 3},
        {"service": "Shop"}, {"service": -1}, {"group": 1.5}, {"group": 1, "count": 1}, {"count": 1, "digest": "x"},
        {"city": "Berlin"}, {}, "canary",
    ],
)  # fmt: skip
def test_a_wave_that_names_nothing_is_refused(wave: Any) -> None:
    with pytest.raises(InvalidInput, match="Wave 1"):
        RolloutPolicy.from_json({"waves": [wave, {"rest": True}]})
