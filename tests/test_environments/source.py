"""A production CI's folder for the tests, laid out as its agent would."""

import json
from pathlib import Path


def install(root: Path, product: str, *versions: str) -> Path:
    """Puts versions of a product into the CI folder `root`; the last one runs."""
    for label in versions:
        folder = root / product / "versions" / label
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "run.sh").write_text(f"echo {product} {label}\n")
        (folder / "bin" / "run.sh").chmod(0o755)
        (folder / "app.txt").write_text(f"{product} {label}")
        check = {"command": ["sh", "bin/run.sh"], "timeout_seconds": 5}
        (folder / "software.json").write_text(json.dumps({"product": product, "version": label, "health": check}))
        link = root / product / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"versions/{label}")
    (root / "facts.json").write_text(json.dumps({"site": "Kiel"}))
    return root


def tree(root: Path) -> dict[str, str]:
    """Everything below a folder: path → content, link target or "folder"."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "folder" if path.is_dir() else path.read_text()
    return found
