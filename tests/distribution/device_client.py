"""A device as the tests play it: the test client with a controller's token."""

import json
from typing import Any

from django.test import Client

from cmdb.models import ConfigurationItem
from cmdb.services import issue_agent_token
from tests.factories import NOW

# One for all: a handler of its own would look through all static files for each device.
CLIENT = Client()


class Device:
    """Speaks for one CI. Methods return responses; `do_*` also check that they were taken."""

    def __init__(self, ci: ConfigurationItem, *, token: str | None = None) -> None:
        self.ci = ci
        self.token = token or issue_agent_token(ci, actor=None, now=NOW)
        self.base = f"/DEFAULT/controller/v1/{ci.agent_id}"
        self.client = CLIENT

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"TargetToken {self.token}", "Accept": "application/json"}

    def get(self, path: str = "", **headers: str) -> Any:
        return self.client.get(self.base + path, headers=self.headers | headers)

    def head(self, path: str, **headers: str) -> Any:
        return self.client.head(self.base + path, headers=self.headers | headers)

    def send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> Any:
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.client.generic(method, self.base + path, data, content_type=content_type, headers=self.headers)

    def poll(self) -> dict[str, Any]:
        response = self.get()
        assert response.status_code == 200, response.content
        return response.json()

    def links(self) -> dict[str, str]:
        return {name: link["href"] for name, link in self.poll()["_links"].items()}

    def fetch(self, deployment: Any) -> Any:
        return self.get(f"/deploymentBase/{deployment.pk}")

    def report(self, deployment: Any, execution: str, finished: str = "none", *details: str, **more: Any) -> Any:
        return self.send(
            "POST",
            f"/deploymentBase/{deployment.pk}/feedback",
            feedback(deployment, execution, finished, *details, **more),
        )

    def answer(self, deployment: Any, execution: str, finished: str = "none", *details: str) -> Any:
        return self.send(
            "POST", f"/cancelAction/{deployment.pk}/feedback", feedback(deployment, execution, finished, *details)
        )

    def attributes(self, data: Any = None, mode: str | None = "replace", **versions: str) -> Any:
        data = data if data is not None else {f"version.{name}": label for name, label in versions.items()}
        return self.send("PUT", "/configData", {"data": data} | ({"mode": mode} if mode else {}))


def feedback(deployment: Any, execution: str, finished: str, *details: str, **more: Any) -> dict[str, Any]:
    return {
        "id": str(deployment.pk),
        "timestamp": 1795374329000,
        "status": {"execution": execution, "result": {"finished": finished}, "details": list(details)},
        **more,
    }
