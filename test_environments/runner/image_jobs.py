"""The long steps of a golden image: take it, delete it."""

from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from test_environments.drivers.interface import CaptureOrder, Consistency, Conversion, Image, Kind, Provenance, Recipe
from test_environments.failpoint import reach
from test_environments.models import GoldenImage, NeutralisingRecipe
from test_environments.runner.jobs import Job
from test_environments.services.images import FREE, fail_image, snapshot_of
from test_environments.services.log import log
from test_environments.services.sources import is_released
from tickets.lifecycle import move

State = GoldenImage.State


def task_of(image: GoldenImage) -> str:
    """What a job has to do for the image now; empty: nothing."""
    return {State.APPROVED: "capture", State.CAPTURING: "capture", State.DELETING: "delete"}.get(State(image.state), "")


class ImageJob(Job):
    """One task of one image."""

    model = GoldenImage
    related = ("source__ci_class",)

    def fail(self, row: Any, now: Any, text: str) -> None:
        fail_image(row, now=now, text=text)

    def do_capture(self) -> None:
        with self.held() as (image, now):
            released = is_released(image)
            if image.state == State.APPROVED and released:
                snapshot = snapshot_of(image.source)
                move(image, "capture", actor=None, now=now, update={"source_snapshot": snapshot})
                log(image, _("The source is being read."), now=now)
            elif not released:
                text = _("The source may no longer be copied: its folder was taken from “Sources of copies”.")
                fail_image(image, now=now, text=text)
                return
            order = _order(image)
        taken = self.driver.capture(order, self.bound)
        reach("imaged")
        with self.held() as (image, now):
            move(image, "become_ready", actor=None, now=now, update={**FREE, **_facts(taken, order, now)})
            if taken.said:
                log(image, _("It was adapted by virt-v2v, which said:\n%(said)s") % {"said": taken.said}, now=now)
            log(image, _("Captured: %(mb)d MB.") % {"mb": taken.image_bytes // 1_000_000}, now=now)
        reach("image_ready")

    def do_delete(self) -> None:
        self.driver.delete_image(self.uuid, self.bound)
        with self.held() as (image, now):
            move(image, "finish_deleting", actor=None, now=now, update={**FREE, "deleted_at": now})
            log(image, _("Deleted; nothing of it is left."), now=now)


def _order(image: GoldenImage) -> CaptureOrder:
    masking = NeutralisingRecipe.objects.filter(ci_class=image.source.ci_class_id, is_masking=True)
    return CaptureOrder(
        image=image.uuid,
        kind=Kind(image.kind),
        method=image.method,
        location=image.location,
        consistency=Consistency(image.consistency),
        provenance=provenance_of(image),
        expected_sha256=image.expected_sha256,
        masking=tuple(recipe_of(row) for row in masking),
        conversion=Conversion(image.conversion),
    )


def provenance_of(thing: Any) -> Provenance:
    """What a driver writes beside the image or environment."""
    return Provenance(settings.PORTAL_URL, thing.number, thing.source.name, f"{thing.created_at:%Y-%m-%dT%H:%M:%SZ}")


def recipe_of(row: NeutralisingRecipe) -> Recipe:
    """The recipe as drivers take it."""
    return Recipe(row.name, remove=tuple(row.remove), write=dict(row.write), disable=tuple(row.disable))


def _facts(taken: Image, order: CaptureOrder, now: Any) -> dict[str, Any]:
    facts = {
        "format": taken.format,
        "source_sha256": taken.source_sha256,
        "image_sha256": taken.image_sha256,
        "source_bytes": taken.source_bytes,
        "image_bytes": taken.image_bytes,
        "consistency": str(taken.consistency),
        "baseline": dict(taken.baseline),
        "versions": {product: list(labels) for product, labels in taken.versions.items()},
        "inventory": dict(taken.inventory),
        "captured_at": now,
        "last_error": "",
    }
    if order.masking:
        names = ", ".join(recipe.name for recipe in order.masking)[:255]
        facts |= {"masked": list(taken.masked), "masked_with": names, "masked_at": now}
    return facts
