"""What the small system is told to change on a disk: recipes, and the identity of a copy (see `scripts/apply.sh`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.interface import Delivery, Recipe
from test_environments.drivers.texts import Text as _

AGENT_FOLDER = "etc/update-agent"
IDENTITY = frozenset({f"{AGENT_FOLDER}/agent.json", f"{AGENT_FOLDER}/token"})
_DEFAULT_ROOT = "/srv/update-agent"
# What the copy's agent keeps of the settings of the CI it is a copy of; all that leads elsewhere goes.
_KEPT_SETTINGS = frozenset({
    "root", "hooks", "root_keys", "root_threshold", "verify_with", "disk_reserve_bytes", "max_unpacked_bytes",
    "max_unpack_ratio", "max_members",
})  # fmt: skip
# What the agent of the CI was doing is not what the copy's does; what it trusts and keeps for a way back stays.
_STATE = ("state.json", "journal.jsonl", "status.json", "command", "lock", "downloads")


def neutralise(recipes: Sequence[Recipe]) -> dict[str, bytes]:
    """The order for recipes alone. Raises Unsupported for a path that leads out."""
    order: dict[str, bytes] = {}
    order["remove"] = _lines(_inside(recipe, path) for recipe in recipes for path in recipe.remove)
    order["disable"] = _lines(_inside(recipe, name) for recipe in recipes for name in recipe.disable)
    for recipe in recipes:
        for path, text in recipe.write.items():
            order[f"files/{_inside(recipe, path)}"] = text.encode()
    return order


def identity(
    delivery: Delivery, url: str, agent: Mapping[str, Any], versions: Mapping[str, str], *, hosts: str
) -> dict[str, bytes]:
    """The order for recipes, the agent's settings and token, and the versions to run. `agent`: the image's settings."""
    kept = {name: value for name, value in agent.items() if name in _KEPT_SETTINGS}
    wanted = {name: value for name, value in delivery.agent_config.items() if name != "root"}
    own = {"url": url, "controller_id": delivery.agent_id, "token_file": "token"}
    config = {"root": _DEFAULT_ROOT, **kept, **wanted, **own}
    order = neutralise(delivery.neutralise)
    state = PurePosixPath("/", AGENT_FOLDER, str(config["root"])) / ".agent"
    order["remove"] += _lines(str(state / name).lstrip("/") for name in _STATE)
    order[f"files/{AGENT_FOLDER}/agent.json"] = json.dumps(config, indent=2).encode()
    order[f"files/{AGENT_FOLDER}/token"] = f"{delivery.token}\n".encode()
    order["current"] = _lines(f"{product} {label}" for product, label in sorted(versions.items()))
    order["hosts"] = hosts.encode()
    return order


def is_state(path: str) -> bool:
    """Whether a changed path is part of the agent's state, not of a recipe."""
    return "/.agent/" in path and path.rpartition("/")[2] in _STATE


def _inside(recipe: Recipe, path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or not parts.parts or ".." in parts.parts or not path.isprintable():
        raise Unsupported(
            _("The recipe “%(name)s” names %(path)r, which leads out of the copy.", name=recipe.name, path=path)
        )
    return str(parts)


def _lines(texts: Any) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
