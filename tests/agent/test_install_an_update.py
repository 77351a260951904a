"""An update is installed, switched, checked and reported."""

import json

import pytest

from tests.agent.ci import Ci, software
from tests.agent.ddi_server import DdiServer


def test_new_version_is_installed_and_reported(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))

    assert ci.cycle()

    assert ci.running() == "1.0"
    assert action.executions == ["download", "downloaded", "proceeding", "closed"]
    assert action.closes[0][0] == "success"
    assert server.attributes == {
        "agent.version": "1.1.0",
        "agent.ways_back": "script,snapshot",
        "signatures": "off",
        "version.app": "1.0",
    }
    assert server.attribute_puts[-1]["mode"] == "replace"
    assert ci.leftovers() == []


def test_attributes_follow_the_close_without_another_poll(ci: Ci, server: DdiServer) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))

    ci.cycle()

    last_poll = max(i for i, r in enumerate(server.requests) if r[:2] == ("GET", "/DEFAULT/controller/v1/ci-0001"))
    after = [path.rpartition("/")[2] for method, path, _ in server.requests[last_poll + 1 :] if method != "GET"]
    assert after[-2:] == ["feedback", "configData"]


def test_failed_health_check_goes_back_to_the_previous_version(ci: Ci, server: DdiServer) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    action = server.offer(server.chunk("app", "2.0", software("app", "2.0", healthy=False)))

    ci.cycle()

    assert ci.running() == "1.0"
    result, details = action.closes[0]
    assert result == "failure"
    assert details[0] == "health_check_failed: app 2.0: exit status 3"
    assert "checking app" in details
    assert server.attributes is not None
    assert server.attributes["version.app"] == "1.0"


def test_failed_first_install_leaves_no_current_version(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", healthy=False)))

    ci.cycle()

    assert ci.running() is None
    assert action.closes[0][0] == "failure"
    assert server.attributes == {"agent.version": "1.1.0", "agent.ways_back": "script,snapshot", "signatures": "off"}


def test_several_products_are_installed_all_or_none(ci: Ci, server: DdiServer) -> None:
    ci.seed("app", "1.0", "old app")
    ci.seed("lib", "1.0", "old lib")
    action = server.offer(
        server.chunk("app", "2.0", software("app", "2.0")),
        server.chunk("lib", "2.0", software("lib", "2.0", healthy=False)),
    )

    ci.cycle()

    assert (ci.running("app"), ci.running("lib")) == ("1.0", "1.0")
    assert action.closes[0][0] == "failure"

    action = server.offer(
        server.chunk("app", "2.0", software("app", "2.0")), server.chunk("lib", "2.1", software("lib", "2.1"))
    )
    ci.cycle()
    assert (ci.running("app"), ci.running("lib")) == ("2.0", "2.1")
    assert action.closes[0][0] == "success"


def test_removal_drops_current_and_keeps_the_versions(ci: Ci, server: DdiServer) -> None:
    server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    ci.cycle()
    remove = {
        "part": "app",
        "version": "",
        "artifacts": [],
        "metadata": [{"key": "action", "value": "remove"}],
    }
    action = server.offer(remove)

    ci.cycle()

    assert ci.running() is None
    assert (ci.root / "app" / "versions" / "1.0" / "app.txt").is_file()
    assert action.closes[0][0] == "success"
    assert server.attributes == {"agent.version": "1.1.0", "agent.ways_back": "script,snapshot", "signatures": "off"}


def test_version_that_is_already_there_is_not_downloaded_again(ci: Ci, server: DdiServer) -> None:
    data = software("app", "1.0")
    server.offer(server.chunk("app", "1.0", data))
    ci.cycle()
    server.offer(server.chunk("app", "2.0", software("app", "2.0")))
    ci.cycle()
    before = sum("/artifacts/" in path for _, path, _ in server.requests)
    back = server.offer(server.chunk("app", "1.0", data))

    ci.cycle()

    assert ci.running() == "1.0"
    assert back.closes[0][0] == "success"
    assert sum("/artifacts/" in path for _, path, _ in server.requests) == before


def test_folder_seeded_by_hand_is_replaced_by_the_verified_content(ci: Ci, server: DdiServer) -> None:
    ci.seed("app", "1.0", "by hand")
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0", text="verified")))

    ci.cycle()

    assert (ci.running(), ci.text()) == ("1.0", "verified")
    assert action.closes[0][0] == "success"
    assert ci.leftovers() == []


def test_failed_replacement_of_a_seeded_folder_restores_it(ci: Ci, server: DdiServer) -> None:
    ci.seed("app", "1.0", "by hand")
    server.offer(server.chunk("app", "1.0", software("app", "1.0", text="broken", healthy=False)))

    ci.cycle()

    assert (ci.running(), ci.text()) == ("1.0", "by hand")
    assert ci.leftovers() == []


def test_facts_are_reported_but_never_hide_what_runs(ci: Ci, server: DdiServer) -> None:
    ci.seed("app", "1.0", "x")
    facts = {"kind": "replica", "os": "debian-12", "version.app": "9.9", "list": [1], "long": "y" * 500}
    (ci.root / "facts.json").write_text(json.dumps(facts))

    ci.cycle()

    own = {"agent.version": "1.1.0", "agent.ways_back": "script,snapshot", "signatures": "off", "version.app": "1.0"}
    assert server.attributes == {**own, "kind": "replica", "os": "debian-12", "long": "y" * 128}


def test_download_only_installs_nothing_until_the_window_opens(ci: Ci, server: DdiServer) -> None:
    action = server.offer(server.chunk("app", "1.0", software("app", "1.0")))
    action.update = "skip"

    ci.cycle()
    ci.cycle()

    assert ci.running() is None
    assert action.executions == ["download", "downloaded"]
    action.update = "forced"
    ci.cycle()
    assert ci.running() == "1.0"
    assert sum("/artifacts/" in path for _, path, _ in server.requests) == 1


def test_details_of_a_talkative_check_are_bounded(ci: Ci, server: DdiServer) -> None:
    from tests.agent.ci import archive

    script = "import sys\nfor i in range(3000): print(i, 'z' * 700, '\\x1b[1m')\nsys.exit(1)"
    info = json.dumps({"product": "app", "version": "1.0", "health": {"command": ["python3", "h.py"]}}).encode()
    data = archive({"software.json": info, "app.txt": b"x", "h.py": script.encode()})
    action = server.offer(server.chunk("app", "1.0", data))

    ci.cycle()

    details = action.closes[0][1]
    assert 3 <= len(details) <= 50
    assert all(len(line) <= 512 and line.isprintable() for line in details)
    assert any(line.startswith("2999 ") for line in details)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"part": "../evil"}, "bad_name"),
        ({"version": "../../x"}, "bad_name"),
        ({"version": ".new-1"}, "bad_name"),
        ({"artifacts": []}, "bad_deployment"),
    ],
)
def test_unusable_chunk_is_refused_with_its_own_code(
    ci: Ci, server: DdiServer, change: dict[str, object], code: str
) -> None:
    action = server.offer({**server.chunk("app", "1.0", software("app", "1.0")), **change})

    ci.cycle()

    assert action.closes[0][0] == "failure"
    assert action.closes[0][1][0].startswith(f"{code}: ")
    assert not (ci.root / "app").exists()
