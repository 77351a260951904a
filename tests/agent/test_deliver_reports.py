"""Reports reach the server once, in order, whatever the line does; cancellations get honest answers."""

import pytest

from tests.agent.ci import Ci, software
from tests.agent.ddi_server import DdiServer


@pytest.fixture
def action_feedback() -> str:
    return r"deploymentBase/\d+/feedback"


def test_lost_answer_to_the_close_is_taken_as_delivered_on_410(ci: Ci, server: DdiServer, action_feedback: str) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    server.fault("POST", action_feedback, execution="closed", drop=True)

    ci.cycle()
    ci.cycle()

    assert len(action.closes) == 1
    assert ci.state()["outbox"] == []
    closes = [line for line in ci.journal() if line["kind"] == "feedback" and line["status"] == 410]
    assert len(closes) == 1


@pytest.mark.parametrize("status", [409, 429, 500, 503, 401])
def test_report_is_kept_until_the_server_takes_it(ci: Ci, server: DdiServer, action_feedback: str, status: int) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    server.fault("POST", action_feedback, status=status)

    assert not ci.cycle()
    assert ci.running() == "1.0"
    assert ci.cycle()

    assert action.executions == ["download", "downloaded", "proceeding", "closed"]


@pytest.mark.parametrize("status", [404, 410])
def test_action_that_the_server_forgot_is_dropped_before_the_switch(
    ci: Ci, server: DdiServer, action_feedback: str, status: int
) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    server.fault("POST", action_feedback, status=status)

    ci.cycle()

    assert ci.running() is None
    assert (ci.state()["action"], ci.state()["outbox"]) == (None, [])
    assert ci.leftovers() == []


def test_closed_action_is_never_installed_again(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    first = action.events[-1]
    # The server lost the close, for example with a restored backup, and offers the action again.
    action.state, action.events = "open", []
    downloads = sum("/artifacts/" in path for _, path, _ in server.requests)

    ci.cycle()

    assert action.events == [first]
    assert sum("/artifacts/" in path for _, path, _ in server.requests) == downloads


def test_same_number_with_other_content_is_another_action(ci: Ci, server: DdiServer) -> None:
    """A portal set up anew counts from one again; saying "done" for something else would be a lie."""
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    action.state, action.events = "open", []
    action.chunks = [server.chunk("app", "2.0", software("app", "2.0"))]

    ci.cycle()

    assert ci.running() == "2.0"
    assert action.closes[0][0] == "success"


def test_cancel_before_the_switch_discards_the_action(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.once(AGENT_FAILPOINT="before_switch")
    action.state = "cancelling"

    ci.cycle()

    assert (action.state, action.closes) == ("cancelled", [])
    assert ci.running() is None
    assert ci.leftovers() == []


def test_cancel_is_noticed_in_the_last_moment_before_the_switch(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    action.cancel_on = "proceeding"

    ci.cycle()

    assert (action.state, action.closes) == ("cancelled", [])
    assert ci.running() is None
    assert ci.leftovers() == []


def test_cancel_of_an_unknown_action_is_accepted(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    action.state = "cancelling"

    ci.cycle()

    assert action.state == "cancelled"


def test_cancel_that_comes_too_late_is_answered_by_what_was_done(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.once(AGENT_FAILPOINT="after_switch")
    action.state = "cancelling"

    ci.cycle()

    assert ci.running() == "1.0"
    assert (action.state, action.cancel_answers) == ("closed", [])
    assert action.closes[0][0] == "success"


def test_lost_answer_to_a_cancel_does_not_make_a_second_one(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    action.state = "cancelling"
    server.fault("POST", "cancelAction", drop=True)

    ci.cycle()
    ci.cycle()

    bodies = [line["body"] for line in ci.journal() if line["kind"] == "cancel"]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert ci.state()["outbox"] == []


def test_refused_attributes_are_sent_again(ci: Ci, server: DdiServer) -> None:
    server.fault("PUT", "configData", status=503)

    assert not ci.cycle()
    assert ci.cycle()

    assert server.attributes == {"agent.version": "1.1.0", "agent.ways_back": "script,snapshot", "signatures": "off"}


def test_the_token_is_nowhere_but_in_the_header(ci: Ci, server: DdiServer) -> None:
    from tests.agent.ddi_server import TOKEN

    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    process = ci.start("--once")
    output = process.communicate(timeout=20)[1].decode()

    assert "done" in output
    assert TOKEN not in output
    written = [path.read_bytes() for path in ci.root.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in data for data in written)


def test_rotated_token_is_read_again(ci: Ci, server: DdiServer) -> None:
    from tests.agent.ddi_server import TOKEN

    (ci.folder / "token").write_text("an-old-token")
    agent = ci.start()
    server.wait(lambda: server.requests)
    (ci.folder / "token").write_text(TOKEN)

    server.wait(lambda: server.attributes is not None)

    agent.terminate()
    agent.communicate(timeout=10)
