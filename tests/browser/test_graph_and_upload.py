"""The impact graph of a CI and the upload in pieces, as people use them."""

from pathlib import Path
from typing import Any

import pytest

from cmdb.models import ConfigurationItem, Relation
from software.models import Artifact, Version
from tests.browser.inspector import Inspector
from tests.browser.test_lists_and_search import shot
from tests.factories import NOW, PASSWORD, make_product, make_user, make_version
from tests.portal.story import tell_story

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
# The library keeps its graph at the place where it draws.
WHERE = "(id) => document.querySelector('.impact-graph')._cyreg.cy.$id(id).renderedPosition()"
LOOKS = [("light", 1280), ("dark", 2560), ("light", 390)]


def crowd(middle: ConfigurationItem, count: int) -> None:
    """`count` CIs around it in both directions, some of them behind others."""
    rows = [
        ConfigurationItem(name=f"node-{n:04}", ci_class=middle.ci_class, created_at=NOW, lifecycle="in_operation")
        for n in range(count)
    ]
    ConfigurationItem.objects.bulk_create(rows)
    near = rows[: count // 10]
    links = [Relation(source=ci, target=middle) for ci in near[::2]]
    links += [Relation(source=middle, target=ci) for ci in near[1::2]]
    for number, ci in enumerate(rows[len(near) :]):
        parent = number % len(near)
        ends = (ci, near[parent]) if parent % 2 == 0 else (near[parent], ci)
        links.append(Relation(source=ends[0], target=ends[1]))
    Relation.objects.bulk_create(links)


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=[f"{scheme}-{width}" for scheme, width in LOOKS])
def test_the_graph_comes_after_the_page_and_keeps_the_policy(browser: Any, live_server: Any, scheme: str, width: int):
    story = tell_story(4)
    ci = story.cis[0]
    crowd(ci, 30)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    inspector = Inspector(browser, live_server.url, options).sign_in("admin")
    page = inspector.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    inspector.open("ci", f"/cis/{ci.number}/")
    page.locator("#impact").scroll_into_view_if_needed()
    page.wait_for_selector(".impact-graph[data-nodes='31']")
    assert sum("cytoscape" in url for url in asked) == 1
    inspector.look()
    shot(page, f"ci-impact-{scheme}-{width}")
    page.select_option("#id_up", "0")
    page.wait_for_selector(".impact-graph[data-nodes]:not([data-nodes='31'])")
    page.click("[data-zoom=in]")
    page.wait_for_timeout(200)  # only for what the library might do to the page, so that the look below sees it
    inspector.look()
    assert inspector.wrong == []


def test_a_thousand_cis_are_laid_out_and_a_node_leads_to_its_page(browser: Any, live_server: Any) -> None:
    story = tell_story(2)
    ci = story.cis[0]
    crowd(ci, 1000)
    inspector = Inspector(browser, live_server.url, {"viewport": {"width": 1280, "height": 900}}).sign_in("admin")
    page = inspector.page
    inspector.open("impact", f"/cis/{ci.number}/impact/?limit=1000")
    page.wait_for_selector(".impact-graph[data-nodes='1001']")
    milliseconds = int(page.get_attribute(".impact-graph", "data-milliseconds") or 0)
    print(f"1,001 nodes laid out in {milliseconds} ms")
    shot(page, "impact-1000")
    inspector.look()
    inspector.open("impact", f"/cis/{ci.number}/impact/?up=0&down=0")
    page.wait_for_selector(".empty-state")
    inspector.open("impact", f"/cis/{ci.number}/impact/?up=1&down=0")
    page.wait_for_selector(".impact-graph[data-nodes]")
    page.locator(".impact-graph").scroll_into_view_if_needed()
    box = page.locator(".impact-graph").bounding_box()
    other_ci = ConfigurationItem.objects.get(name="node-0000")
    at = page.evaluate(WHERE, str(other_ci.pk))
    page.mouse.click(box["x"] + at["x"], box["y"] + at["y"])
    page.wait_for_url(f"**/cis/{other_ci.number}/")
    assert inspector.wrong == []


@pytest.fixture
def library(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path


def test_a_file_is_sent_in_pieces_and_goes_on_after_a_break(browser: Any, live_server: Any, library: Path) -> None:
    make_version(make_product("billing"), "2.0", state=Version.State.DRAFT)
    make_user("rene", "release engineer", password=PASSWORD)
    file = library / "billing-2.0.tar.gz"
    file.write_bytes(bytes(range(256)) * 80_000)
    inspector = Inspector(browser, live_server.url, {"viewport": {"width": 1280, "height": 900}}).sign_in("rene")
    page = inspector.page
    breaks = iter(("once",))

    def route(request: Any) -> None:
        # The second piece never arrives.
        if "offset=8388608" in request.request.url and next(breaks, None):
            request.abort("connectionreset")
        else:
            request.continue_()

    page.route("**/software/uploads/**", route)
    inspector.open("upload", "/software/billing/versions/2.0/upload/")
    page.set_input_files("input[type=file]", file)
    page.click("main button[type=submit]")
    page.wait_for_selector("#upload:not([hidden]) progress")
    shot(page, "upload")
    page.wait_for_url("**/software/billing/")
    assert Artifact.objects.get().size == 256 * 80_000
    assert next(breaks, None) is None
    assert [wrong for wrong in inspector.wrong if "ERR_CONNECTION_RESET" not in wrong] == []


def test_the_form_works_without_scripts(browser: Any, live_server: Any, library: Path) -> None:
    make_version(make_product("billing"), "2.0", state=Version.State.DRAFT)
    make_user("rene", "release engineer", password=PASSWORD)
    file = library / "billing-2.0.tar.gz"
    file.write_bytes(b"x" * 1000)
    inspector = Inspector(browser, live_server.url, {"java_script_enabled": False}).sign_in("rene")
    inspector.page.goto(f"{live_server.url}/software/billing/versions/2.0/upload/")
    inspector.page.set_input_files("input[type=file]", file)
    inspector.page.click("main button[type=submit]")
    inspector.page.wait_for_url("**/software/billing/")
    assert Artifact.objects.get().size == 1000
