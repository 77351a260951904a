"""The live page of a rollout."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils.safestring import SafeString

from distribution.models import Batch, Deployment, DeploymentEvent
from releases import live, views_rollout
from releases.census import census_of, charts_of
from releases.live_parts import LaneParts, Part, Parts
from releases.models import FailureDecision, Rollout, Wave
from releases.policy import RolloutPolicy
from tests.factories import NOW
from tests.portal.story import Story, tell_story
from tests.portal.test_every_page import login

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def at_one_moment(monkeypatch) -> None:
    """The page's time stands still: it is part of the mark."""
    monkeypatch.setattr(views_rollout, "now_of", lambda request: NOW)


def look(client: Client, story: Story, mark: str = ""):
    return client.get(f"/rollouts/{story.rollout.number}/live/?mark={mark}")


def test_nothing_is_sent_while_nothing_has_changed() -> None:
    story = tell_story(9)
    client = login(story.manager)
    mark = look(client, story).context["live"].mark
    assert look(client, story, mark).status_code == 204
    moved = Deployment.objects.filter(state="queued").first()
    assert moved is not None
    Deployment.objects.filter(pk=moved.pk).update(state="installing", moved_at=NOW + timedelta(seconds=1))
    assert look(client, story, mark).status_code == 200


def test_what_happens_in_another_rollout_sends_nothing() -> None:
    story = tell_story(9)
    client = login(story.manager)
    mark = look(client, story).context["live"].mark
    batch = Batch.objects.create(label="ROL-9999999", purpose="forward", created_at=NOW)
    other = Deployment.objects.create(batch=batch, ci=story.cis[0], state="failed", created_at=NOW, moved_at=NOW,
                                      finished_at=NOW)  # fmt: skip
    DeploymentEvent.objects.create(deployment=other, kind="report", to_state="failed", at=NOW)
    assert look(client, story, mark).status_code == 204


def test_while_it_runs_it_is_shown_anew_twice_a_minute() -> None:
    story = tell_story(4)
    batches = [wave.batch_id for wave in story.rollout.waves.all()]

    def mark(seconds: int) -> str:
        return live.mark_of(story.rollout, batches, now=start + timedelta(seconds=seconds))

    start = datetime(2030, 1, 1, tzinfo=UTC)
    assert mark(0) == mark(live.RENEWED_SECONDS - 1) != mark(live.RENEWED_SECONDS)
    Rollout.objects.update(state="completed", settled_at=NOW)
    story.rollout.refresh_from_db()
    assert mark(0) == mark(live.RENEWED_SECONDS)


def test_the_page_and_its_fragment_are_the_same() -> None:
    story = tell_story(6)
    client = login(story.manager)
    page = client.get(f"/rollouts/{story.rollout.number}/").content.decode()
    assert 'id="live"' in page
    assert "every 2s" in page
    fragment = look(client, story).content.decode()
    assert fragment.count('class="lane"') == page.count('class="lane"') == 3


def test_a_finished_rollout_stops_asking() -> None:
    story = tell_story(4)
    Rollout.objects.filter(pk=story.rollout.pk).update(state="completed", settled_at=NOW, finished_at=NOW)
    text = login(story.manager).get(f"/rollouts/{story.rollout.number}/").content.decode()
    assert "every 2s" not in text


def test_cells_tell_state_and_error_of_each_ci() -> None:
    story = tell_story(20)
    text = look(login(story.manager), story).content.decode()
    failed = Deployment.objects.filter(state="failed").select_related("ci").first()
    assert failed is not None
    assert f"{failed.ci.name} · failed · health_check" in text


def test_a_requester_sees_only_his_own_cis_as_cells() -> None:
    story = tell_story(9)
    view = live.live_view(story.rollout, story.requester, now=NOW)
    names = {cell.ci for lane in view.lanes for cell in lane.cells}
    assert names == {ci.name for ci in story.cis if ci.owner == story.requester}
    assert view.totals.total == 9


def test_many_cis_are_grouped_and_none_is_lost(monkeypatch) -> None:
    story = tell_story(30)
    monkeypatch.setattr(live, "MOST_CELLS", 10)
    monkeypatch.setattr(live, "GROUPED_CELLS", 10)
    failed = Deployment.objects.filter(state="failed").first()
    assert failed is not None
    Deployment.objects.create(
        batch=failed.batch, ci=failed.ci, attempt=2, state="failed", created_at=NOW, moved_at=NOW, finished_at=NOW
    )
    view = live.live_view(story.rollout, story.manager, now=NOW)
    cells = [cell for lane in view.lanes for cell in lane.cells]
    assert sum(cell.size for cell in cells) == 30
    assert len(cells) < 20
    assert any(cell.state == "failed" and cell.size > 1 for cell in cells)


def test_a_retry_counts_once() -> None:
    story = tell_story(12)
    failed = Deployment.objects.filter(state="failed").first()
    assert failed is not None
    Deployment.objects.create(batch=failed.batch, ci=failed.ci, attempt=2, state="queued", created_at=NOW, moved_at=NOW)
    view = live.live_view(story.rollout, story.manager, now=NOW)
    assert view.totals.total == 12
    assert sum(len(lane.cells) for lane in view.lanes) == 12


def test_stragglers_stand_on_the_page_on_their_own_page_and_in_the_api() -> None:
    story = tell_story(20)
    client = login(story.manager)
    failed = Deployment.objects.filter(state="failed").select_related("ci").first()
    assert failed is not None
    own = f"/rollouts/{story.rollout.number}/stragglers/"
    for address in (f"/rollouts/{story.rollout.number}/", f"{own}?page=99"):
        text = client.get(address).content.decode()
        assert failed.error_code in text
        assert failed.ci.name in text
    answer = client.get(f"/api/v1{own}?state=failed&limit=1").json()
    assert answer["count"] == Deployment.objects.filter(state="failed").count()
    row = answer["results"][0]
    assert (row["code"], row["state"]) == ("failed", "failed")
    assert failed.error_code in client.get(f"/api/v1{own}?state=failed").json()["results"][0]["text"]


def part_ids(response) -> list[str]:
    return re.findall(r'<[a-z]+[^>]* id="([^"]+)" hx-swap-oob', response.content.decode())


def test_only_the_parts_that_have_changed_are_sent_again() -> None:
    story = tell_story(40)
    client = login(story.manager)
    whole = look(client, story).content.decode()
    found = re.search(r"mark=([^&]*)&amp;have=([0-9a-f.]+)", whole)
    assert found is not None
    mark, have = found.groups()
    deployment = Deployment.objects.filter(state="installing").select_related("batch__wave").first()
    assert deployment is not None
    Deployment.objects.filter(pk=deployment.pk).update(state="confirming", moved_at=NOW + timedelta(minutes=1))
    answer = client.get(f"/rollouts/{story.rollout.number}/live/?mark={mark}&have={have}")
    wave = deployment.batch.wave.pk
    changed = set(part_ids(answer))
    assert {"live-poll", f"lane-{wave}", f"cells-{wave}-0"} <= changed
    assert not [name for name in changed if name.startswith(("lane-", "cells-")) and str(wave) not in name]
    assert "live-events" not in changed
    assert len(answer.content) * 2 < len(whole)
    # With other parts than it has, a browser gets all of them.
    everything = client.get(f"/rollouts/{story.rollout.number}/live/?mark={mark}&have=00000000")
    assert part_ids(everything) == ["live"]


def test_versions_and_installations_over_time_stand_in_charts() -> None:
    story = tell_story(12)
    times = [NOW + timedelta(minutes=5), NOW + timedelta(minutes=7)]
    for deployment, moment in zip(Deployment.objects.filter(state="succeeded")[:2], times, strict=True):
        Deployment.objects.filter(pk=deployment.pk).update(moved_at=moment, finished_at=moment)
    waves = list(story.rollout.waves.all())
    succeeded = Deployment.objects.filter(state="succeeded").count()
    found = census_of(story.rollout, waves, now=NOW + timedelta(minutes=10))
    assert found.width == 30
    assert found.updated[-1] == succeeded
    assert found.updated[10:15] == [succeeded - 1] * 4 + [succeeded]
    assert sum(found.installed) == succeeded
    assert found.rates(found.installed)[10] == 2
    assert found.total == 12
    text = look(login(story.manager), story).content.decode()
    assert text.count("<figure") == 2


def test_what_went_back_is_on_the_new_version_no_more() -> None:
    story = tell_story(12)
    gone = Deployment.objects.filter(state="succeeded").first()
    assert gone is not None
    batch = Batch.objects.create(label=story.rollout.number, purpose="rollback", created_at=NOW)
    Wave.objects.create(rollout=story.rollout, number=1, kind="rollback", state="passed", batch=batch, size=1)
    later = NOW + timedelta(minutes=4)
    Deployment.objects.create(
        batch=batch, ci=gone.ci, state="succeeded", created_at=NOW, moved_at=later, finished_at=later
    )
    found = census_of(story.rollout, list(story.rollout.waves.all()), now=NOW + timedelta(minutes=5))
    assert found.updated[-1] == found.updated[0] - 1
    assert sum(found.returned) == 1


def test_the_end_is_unknown_until_enough_is_measured() -> None:
    story = tell_story(40)
    view = live.live_view(story.rollout, story.manager, now=NOW)
    assert view.eta is not None
    assert view.eta.typical is None
    assert "unknown until 5 CIs" in view.eta.why
    Deployment.objects.filter(state="failed").update(state="queued", finished_at=None)
    Deployment.objects.filter(state="succeeded").update(
        offered_at=NOW - timedelta(seconds=60), finished_at=NOW, moved_at=NOW
    )
    eta = live.live_view(story.rollout, story.manager, now=NOW).eta
    assert eta is not None
    assert eta.typical is not None
    assert eta.slow is not None
    # Two waves have not passed: each takes a minute and its problem-free period.
    policy = RolloutPolicy.from_json(story.rollout.policy)
    least = NOW + 2 * timedelta(seconds=60 + policy.soak_seconds)
    assert least <= eta.typical <= eta.slow
    assert any("60 s for half of the CIs" in line for line in eta.assumes)


def test_nobody_foretells_the_end_of_what_is_paused_or_over() -> None:
    story = tell_story(4)
    Rollout.objects.filter(pk=story.rollout.pk).update(state="paused")
    story.rollout.refresh_from_db()
    eta = live.live_view(story.rollout, story.manager, now=NOW).eta
    assert eta is not None
    assert eta.why == "unknown while it is “paused”"
    Rollout.objects.filter(pk=story.rollout.pk).update(state="completed")
    story.rollout.refresh_from_db()
    assert live.live_view(story.rollout, story.manager, now=NOW).eta is None


def test_the_rate_of_a_slow_rollout_is_told_per_hour_or_day_and_is_never_rounded_to_nothing() -> None:
    story = tell_story(12)
    waves = list(story.rollout.waves.all())
    for span, width, unit, title in (
        (timedelta(minutes=10), 30, 60, "Installations per minute"),
        (timedelta(hours=10), 1800, 3600, "Installations per hour"),
        (timedelta(days=10), 43_200, 86_400, "Installations per day"),
    ):
        found = census_of(story.rollout, waves, now=NOW + span)
        assert (found.width, found.unit) == (width, unit)
        chart = charts_of(found, waves)[1]
        assert chart.title == title
        shown = [chart.text_of(value) for value in chart.series[0].values]
        assert [text != "0" for text in shown] == [count > 0 for count in found.installed]


def test_the_first_and_the_last_column_are_divided_by_what_has_elapsed_of_them() -> None:
    story = tell_story(12)
    start = datetime(2030, 1, 1, 12, 0, 20, tzinfo=UTC)
    story.rollout.started_at = start
    Deployment.objects.filter(state="succeeded").update(moved_at=start + timedelta(seconds=2))
    last = Deployment.objects.filter(state="succeeded").first()
    assert last is not None
    Deployment.objects.filter(pk=last.pk).update(moved_at=start + timedelta(minutes=10, seconds=1))
    found = census_of(story.rollout, list(story.rollout.waves.all()), now=start + timedelta(minutes=10, seconds=5))
    # 12:00:20 to 12:00:30, and 12:10:00 to 12:10:25.
    assert (found.width, found.elapsed[0], found.elapsed[1], found.elapsed[-1]) == (30, 10, 30, 25)
    assert found.rates(found.installed)[0] == 6 * found.installed[0]
    assert found.rates(found.installed)[-1] == 60 / 25


def test_a_clock_behind_that_of_the_one_who_started_breaks_no_page() -> None:
    """The clocks of two hosts differ by seconds."""
    story = tell_story(4)
    waves = list(story.rollout.waves.all())
    found = census_of(story.rollout, waves, now=story.rollout.started_at - timedelta(hours=2))
    assert (found.width, len(found.updated)) == (1, 1)
    assert len(charts_of(found, waves)) == 2


def test_more_failures_than_the_threshold_allows_never_reach_it_until_somebody_accepts_them() -> None:
    story = tell_story(40)
    succeeded = Deployment.objects.filter(state="succeeded")
    succeeded.update(offered_at=NOW - timedelta(seconds=60), finished_at=NOW, moved_at=NOW)
    Rollout.objects.update(policy={**story.rollout.policy, "success_threshold": 90})
    story.rollout.refresh_from_db()
    wave = story.rollout.waves.get(number=2)
    failed = Deployment.objects.filter(batch=wave.batch, state="failed")
    assert failed.count() * 100 > 10 * wave.size
    eta = live.live_view(story.rollout, story.manager, now=NOW).eta
    assert eta is not None
    assert eta.typical is None
    assert "a wave never reaches its threshold" in eta.why
    for deployment in failed:
        FailureDecision.objects.create(
            wave=wave, deployment=deployment, kind="ignored", reason="Known.", decided_by=story.manager, at=NOW
        )
    eta = live.live_view(story.rollout, story.manager, now=NOW).eta
    assert eta is not None
    assert eta.typical is not None


def test_three_hundred_waves_fit_into_a_request_line_and_few_are_sent_again() -> None:
    def parts(changed: int | None = None) -> Parts:
        def part(name: str, text: str = "") -> Part:
            return Part(name, SafeString(f'<div id="{name}">{text}</div>'))

        lanes = [
            LaneParts(part(f"lane-{n}", "new" if n == changed else ""), [part(f"cells-{n}-0")], is_grouped=False)
            for n in range(300)
        ]
        return Parts(part("head"), part("charts"), lanes, part("failures"), part("verdicts"), part("events"))

    have = parts().have
    assert len(have) < 1900
    assert parts().changed_since(have) == []
    sent = parts(changed=150).changed_since(have)
    assert sent is not None
    lanes = {part.id for part in sent if part.id.startswith("lane-")}
    assert "lane-150" in lanes
    assert len(lanes) <= 4
    assert not {"head", "charts", "events"} & {part.id for part in sent}
