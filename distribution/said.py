"""What a device's message says about what it runs: its attributes read by its profile."""

from collections.abc import Mapping, Sequence

from cmdb.models import AgentProfile, ConfigurationItem
from software.models import Product

DEFAULT_KEY = "version.{product}"
_MAX_LABEL = 64
_PLACE = "{product}"


class Said:
    """What one message says about products: `said[product]` is a label, or None: not there."""

    def __init__(self) -> None:
        self.products: dict[int, Product] = {}
        self.labels: dict[int, str | None] = {}
        self.keys: dict[int, str] = {}
        # Products that the message itself speaks of; the others stand as they were said before.
        self.spoken_of: set[int] = set()

    def add(self, product: Product, label: str | None) -> None:
        """The message says this itself."""
        self.products[product.pk], self.labels[product.pk] = product, label
        self.spoken_of.add(product.pk)


def combined(before: Mapping[str, str], data: Mapping[str, str | None], mode: str) -> dict[str, str]:
    """The attributes after a message: `mode` is merge (None deletes), replace or remove."""
    if mode == "remove":
        return {key: value for key, value in before.items() if key not in data}
    merged = {} if mode == "replace" else dict(before)
    for key, value in data.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def read_said(
    ci: ConfigurationItem,
    after: Mapping[str, str],
    before: Mapping[str, str],
    keys: set[str],
    mode: str,
    wanted: Sequence[Product],
    installed: Sequence[Product],
) -> Said:
    """What a message about these `keys` says of products; `wanted` are those of its deployments, `installed` those that
    it ran. Further products whose attribute it has cost a query.
    """
    profile = ci.agent_profile
    template = profile.attribute_key if profile is not None else DEFAULT_KEY
    # Others send a full list that never names what they run: what is missing in it is not missing on the device.
    reports_all = profile is None or (profile.can_remove and profile.proof == AgentProfile.Proof.ATTRIBUTES)
    by_key: dict[str, Product] = {}
    if _PLACE in template:
        by_key = {template.replace(_PLACE, product.slug): product for product in [*installed, *wanted]}
        by_key |= _further_products(template, {*after, *before} - set(by_key))
    else:
        # The key names no product: it speaks of the only one there is.
        alone = {product.pk: product for product in (wanted or installed)}
        if len(alone) == 1:
            by_key = {template: next(iter(alone.values()))}
    said = Said()
    for key, product in by_key.items():
        said.keys[product.pk] = key
        label = after.get(key)
        if label is not None and not 0 < len(label) <= _MAX_LABEL:
            continue
        said.products[product.pk] = product
        said.labels[product.pk] = label
        if key in keys or (mode == "replace" and (label is not None or reports_all)):
            said.spoken_of.add(product.pk)
    return said


def _further_products(template: str, keys: set[str]) -> dict[str, Product]:
    prefix, suffix = template.split(_PLACE, 1)
    slugs = {
        key[len(prefix) : len(key) - len(suffix)]: key
        for key in keys
        if key.startswith(prefix) and key.endswith(suffix) and len(key) > len(prefix) + len(suffix)
    }
    found = Product.objects.filter(slug__in=list(slugs)) if slugs else ()
    return {slugs[product.slug]: product for product in found}
