"""A fleet that calls at once: nginx sends polls away, and nothing else."""

import pytest

from benchmarks import nginx
from tests.nginx.conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented file with a rate that a test can exceed."""
    whole = nginx.configuration

    def narrowed(*arguments: object) -> str:
        text = whole(*arguments)  # type: ignore[arg-type]
        assert "rate=620r/s" in text
        assert "burst=12400" in text
        return text.replace("rate=620r/s", "rate=1r/m").replace("burst=12400", "burst=1 nodelay")

    monkeypatch.setattr(nginx, "configuration", narrowed)


def test_only_polls_above_the_rate_are_told_to_come_back(narrow: None, site: Site) -> None:
    poll = site.device.base
    assert [site.ask("GET", poll).status for _ in range(2)] == [200, 200]
    refused = [site.ask("GET", poll) for _ in range(20)]
    assert {answer.status for answer in refused} == {429}
    waits = {int(answer.getheader("Retry-After") or 0) for answer in refused}
    assert waits <= {20, 33, 46, 59, 72, 85, 98, 110}
    assert len(waits) > 1, "those who are sent away together do not come back together"
    assert site.ask("GET", f"{poll}/").status == 429
    for _ in range(5):
        assert site.ask("GET", f"{poll}/deploymentBase/1").status in {200, 404}
        assert site.ask("GET", "/healthz").status == 200
    assert site.get().status == 200
