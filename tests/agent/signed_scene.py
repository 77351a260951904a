"""A CI whose software was installed by signature, and what must be so after a refused attack."""

import json

from tests.agent.ci import Ci, software
from tests.agent.ddi_server import Action, DdiServer
from tests.agent.signer import KeyHolder

Scene = tuple[Ci, DdiServer, KeyHolder]


def plain(version: str) -> bytes:
    return software("app", version, healthy=None)


def install(ci: Ci, server: DdiServer, holder: KeyHolder, version: str, **envelopes: str | None) -> Action:
    action = server.offer(holder.signed(server.chunk("app", version, plain(version)), **envelopes))
    ci.cycle()
    return action


def assert_refused(scene: Scene, action: Action, code: str) -> None:
    """The refusal is on the server under its code, the CI is as before, and it still takes a good update."""
    ci, server, holder = scene
    result, details = action.closes[0]
    assert (result, details[0].split(":")[0]) == ("failure", code)
    assert (ci.running(), ci.text()) == ("2.0", "app 2.0")
    assert ci.leftovers() == []
    assert server.attributes is not None
    assert server.attributes["version.app"] == "2.0"

    good = install(ci, server, holder, "9.0")
    assert good.closes == [("success", [f"installed: {_content(ci, '9.0')}"])]
    assert ci.running() == "9.0"


def _content(ci: Ci, version: str) -> str:
    digest = json.loads((ci.root / "app" / "versions" / version / ".complete").read_text())["sha256"]
    return f"app={version}@{digest}"
