"""What a browser finds wrong with pages: axe's findings, the policy, the console, requests elsewhere, the width."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from tests.factories import PASSWORD

AXE = Path(settings.BASE_DIR) / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}
# Runs before anything of the page; nothing that the policy forbids stays unseen.
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
LOOK = """
async (rules) => {
  const found = await axe.run(document, {resultTypes: ["violations"], ...(rules && {runOnly: {type: "rule", values: rules}})});
  return found.violations.map(({id, impact, nodes}) => ({id, impact, nodes: nodes.slice(0, 3).map((node) =>
    `${node.target.join(" ")}: ${node.any.concat(node.all, node.none).map((check) => check.message).join("; ")}`)}));
}
"""  # noqa: E501
WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@cache
def axe() -> str:
    return AXE.read_text(encoding="utf-8")


@dataclass
class Inspector:
    """One person's browser; `wrong` is what was found on all pages that he opened."""

    browser: Any
    address: str
    options: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = self.browser.new_context(**{"reduced_motion": "reduce", **self.options})  # nothing half-way
        self.context.add_init_script(LISTEN)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.name = ""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"{self.name}: {error}"))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{self.name}: the console says {message.text}")

    def _asked(self, request: Any) -> None:
        url = urlsplit(request.url)
        if url.scheme not in {"data", "blob"} and url.netloc != urlsplit(self.address).netloc:
            self.wrong.append(f"{self.name}: asks {request.url}")

    def sign_in(self, name: str) -> "Inspector":
        self.page.goto(f"{self.address}/accounts/login/")
        self.page.fill("#id_login", name)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector(".user-button")
        return self

    def open(self, name: str, path: str) -> None:
        """Opens a page and waits until its parts have come."""
        self.name = name
        answer = self.page.goto(self.address + path)
        if answer.status != 200:
            self.wrong.append(f"{name}: {answer.status}")
        self.page.wait_for_load_state("networkidle")

    def look(self, *rules: str) -> None:
        """Everything about what is shown now; of axe only these rules, if any are named."""
        self.wrong += [f"{self.name}: violates the policy, {what}" for what in self.page.evaluate("window.violations")]
        wide = self.page.evaluate(WIDTH)
        if wide > 0:
            self.wrong.append(f"{self.name}: {wide} px too wide")
        if not self.page.evaluate("Boolean(window.axe)"):
            self.page.evaluate(axe())
        for finding in self.page.evaluate(LOOK, list(rules) or None):
            if finding["impact"] in GRAVE:
                where = " | ".join(finding["nodes"])
                self.wrong.append(f"{self.name}: {finding['id']}, {where}")
