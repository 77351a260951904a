"""What this CI believes about signatures, on disk: the newest key set and a counter per product.

trust.json outlives everything else: it is what stops an old key set and an old version from coming back. It
is written before a new key set is used, and after a version proved healthy, before its action is closed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from agent.config import Config, is_segment
from agent.durable import write_json
from agent.failpoint import reach
from agent.state import StateError

SIGNATURES_ON, SIGNATURES_OFF = "required", "off"


class Release(NamedTuple):
    """A signed version: ``counter`` grows with each release of its product."""

    version: str
    counter: int


class Trust:
    """trust.json in memory. Without root keys nothing is verified and nothing is written."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.root_keys = config.root_keys
        self.root_threshold = config.root_threshold
        self.verify_with = config.verify_with
        # The payload of the newest key set that was accepted, as it was signed, and its number.
        self.keys: str | None = None
        self.keys_number: int | None = None
        # Per product the release installed last; it stays when the product is removed.
        self.installed: dict[str, Release] = {}

    @property
    def is_required(self) -> bool:
        """Whether nothing may be installed or removed without a valid signature."""
        return bool(self.root_keys)

    @property
    def mode(self) -> str:
        """The word for the attribute and the status."""
        return SIGNATURES_ON if self.is_required else SIGNATURES_OFF

    @classmethod
    def load(cls, path: Path, config: Config) -> Trust:
        """The trust saved in ``path``, or the pinned keys alone. Raises StateError, OSError."""
        trust = cls(path, config)
        try:
            raw = json.loads(path.read_bytes())
        except FileNotFoundError:
            return trust
        except ValueError as error:
            raise StateError(f"{path}: not valid JSON ({error})") from None
        try:
            if raw["format"] != 1:
                raise StateError(f"{path}: written by another version of the agent (format {raw['format']})")
            # Other pinned keys mean that the administrator begins anew; the counters still hold.
            if raw["pinned"] == list(config.root_keys):
                trust.keys, trust.keys_number = raw["keys"], raw["keys_number"]
            for product, release in raw["installed"].items():
                trust.installed[product] = Release(str(release["version"]), int(release["counter"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"{path}: not the trust of this agent ({error!r})") from None
        return trust

    def adopt(self, keys: str, number: int) -> None:
        """Makes a verified key set the one that counts, durably. Raises OSError."""
        self.keys, self.keys_number = keys, number
        self._save()
        reach("after_keys")

    def record(self, releases: dict[str, Release]) -> None:
        """Remembers, durably, what was installed by signature. Raises OSError."""
        changed = {product: release for product, release in releases.items() if is_segment(product)}
        if changed and self.installed != {**self.installed, **changed}:
            self.installed.update(changed)
            self._save()
            reach("after_trust")

    def _save(self) -> None:
        write_json(
            self.path,
            {
                "format": 1,
                "pinned": list(self.root_keys),
                "keys": self.keys,
                "keys_number": self.keys_number,
                "installed": {product: release._asdict() for product, release in self.installed.items()},
            },
        )
