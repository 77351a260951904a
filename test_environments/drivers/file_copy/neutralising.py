"""Taking out of a copied tree what must not run in it. No link is ever followed."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from test_environments.drivers.errors import Unsupported
from test_environments.drivers.file_copy.copying import remove_tree
from test_environments.drivers.interface import Recipe
from test_environments.drivers.texts import Text as _


def neutralise(root: Path, recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """Removes and overwrites what the recipes name below `root`; returns the changed paths, sorted.

    Again without effect. Services are not disabled: there are none in a copy of files. Raises Unsupported for a path
    that leads out, OSError.
    """
    changed = set()
    for recipe in recipes:
        for pattern in recipe.remove:
            for path in list(_matches(root, _parts(recipe, pattern))):
                remove_tree(path)
                changed.add(str(path.relative_to(root)))
        for name, text in recipe.write.items():
            if _overwrite(root, _parts(recipe, name), text):
                changed.add(name)
    return tuple(sorted(changed))


def _parts(recipe: Recipe, pattern: str) -> tuple[str, ...]:
    path = PurePosixPath(pattern)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise Unsupported(
            _(
                "The recipe “%(name)s” names %(pattern)r, which leads out of the copy.",
                name=recipe.name,
                pattern=pattern,
            )
        )
    return path.parts


def _matches(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    names = fnmatch.filter(sorted(os.listdir(folder)), parts[0])
    for name in names:
        path = folder / name
        if len(parts) == 1:
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _matches(path, parts[1:])


def _overwrite(root: Path, parts: Sequence[str], text: str) -> bool:
    """Writes `text`, whatever was there; False when it stands there already."""
    path = root
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()
        path.mkdir(exist_ok=True)
    path = path / parts[-1]
    if not path.is_symlink() and path.is_file() and path.read_text(errors="replace") == text:
        return False
    remove_tree(path)
    path.write_text(text)
    return True
