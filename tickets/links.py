"""Addresses of pages for objects and for numbers in plain text; knows URL names only, so it may point upwards."""

from typing import Any

from django.urls import NoReverseMatch, reverse

from tickets.numbers import format_number, parse_number

PAGES: dict[str, str] = {
    "INC": "incident_detail",
    "PRB": "problem_detail",
    "CHG": "change_detail",
    "REL": "release_detail",
    "ROL": "rollout_detail",
    "CI": "ci_detail",
    "GRP": "group_detail",
    "REG": "registration_detail",
    "TPL": "standard_detail",
    "FRZ": "freeze_detail",
    "ENV": "environment_detail",
    "IMG": "image_detail",
    "DSK": "disk_detail",
}


def page_of_number(text: str) -> str:
    """The address of the page of a number in any spelling; empty when it names nothing that has a page."""
    found = parse_number(text)
    if found is None or found[0] not in PAGES:
        return ""
    return page_of(*found)


def page_of(prefix: str, key: int) -> str:
    """The address of the page of the object with this prefix and key."""
    try:
        return reverse(PAGES[prefix], args=[format_number(prefix, key)])
    except NoReverseMatch:
        return ""


def page_of_object(instance: Any) -> str:
    """The address of an object's page: by its number, or for the software library by its product."""
    prefix = getattr(instance, "PREFIX", "")
    if prefix in PAGES:
        return page_of(prefix, instance.pk)
    product = getattr(instance, "product", instance)
    return reverse("product_detail", args=[product.slug]) if hasattr(product, "slug") else ""
