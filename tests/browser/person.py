"""One person at the portal, in a browser of his own: signs in, opens pages, presses the buttons that he sees."""

import re
from pathlib import Path
from typing import Any, Self


class Person:
    """A signed-in person. `said` is what the browser's console has complained about: nothing, if all is well."""

    def __init__(self, browser: Any, address: str, name: str, password: str, **options: Any) -> None:
        self.name = name
        self.address = address
        self.said: list[str] = []
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(f"{address}/accounts/login/")
        self.page.fill("#id_login", name)
        self.page.fill("#id_password", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("h1:has-text('Good day')")

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(f"{self.name} at {self.page.url}: {message.text}")

    def open(self, path: str) -> Self:
        answer = self.page.goto(f"{self.address}{path}")
        assert answer.status == 200, f"{self.name} gets {answer.status} for {path}"
        return self

    def fill(self, form: str = "main form", **values: Any) -> Self:
        """Fills fields by name: text, a choice or boxes by (a part of) their labels, True for a box, a file."""
        for name, value in values.items():
            field = self.page.locator(f"{form} [name='{name}']")
            kind = field.first.evaluate("e => e.tagName == 'SELECT' ? 'select' : e.type")
            if kind == "select":
                field.select_option(label=value)
            elif kind == "file":
                field.set_input_files(value)
            elif value is True:
                field.check()
            elif kind in {"checkbox", "radio"}:
                for part in [value] if isinstance(value, str) else value:
                    rows = (
                        self.page.locator(f"{form} .form-check")
                        .filter(has=self.page.locator(f"[name='{name}']"))
                        .filter(has_text=part)
                    )
                    rows.locator("input").check()
            else:
                field.fill(value)
        return self

    def submit(self, form: str = "main form") -> Self:
        """Sends the form of a page and waits for the page behind it."""
        before = self.page.url
        self.page.click(f"{form} button[type=submit]")
        self.page.wait_for_url(lambda url: url != before)
        return self

    def press(self, label: str, **values: Any) -> Self:
        """Presses a button of the object's header; where it opens a form, fills it with the values and sends it."""
        button = self.page.locator(".page-head .actions .btn").filter(has_text=re.compile(rf"^\s*{label}\s*$"))
        opens_form = button.evaluate("e => e.tagName == 'A'")
        self.page.evaluate("document.querySelector('.page-head').dataset.old = 'old'")
        if not opens_form:
            with self.page.expect_response(lambda answer: answer.request.method == "POST") as answered:
                button.click()
        else:
            button.click()
            self.page.wait_for_selector("#verb-form form")
            self.fill("#verb-form form", **values)
            with self.page.expect_response(lambda answer: answer.request.method == "POST") as answered:
                self.page.click("#verb-form button[type=submit]")
        assert answered.value.status < 400, f"{self.name}, {label}: {answered.value.status} {self._refusals()}"
        self.page.wait_for_selector(".page-head[data-old], #verb-form form", state="detached")
        return self

    def _refusals(self) -> str:
        self.page.wait_for_timeout(300)  # only for the message: until the answer is drawn
        return " | ".join(self.page.locator(".notice, .alert, .invalid-feedback").all_inner_texts())

    def state(self, text: str, seconds: float = 60) -> Self:
        """Waits until the object's badge says so."""
        self.page.wait_for_selector(f".states .state:has-text('{text}')", timeout=seconds * 1000)
        return self

    @property
    def number(self) -> str:
        """The number of the object whose page is open."""
        return str(self.page.inner_text("h1 .number"))

    def shot(self, path: Path) -> None:
        self.page.screenshot(path=path, full_page=True)
