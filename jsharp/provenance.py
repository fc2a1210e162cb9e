"""What made a result: commit, versions, device. Stored beside every result."""

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jsharp", "jax", "jaxlib", "flax", "optax", "numpy", "tokenizers")


def surroundings() -> dict[str, Any]:
    """The commit (null outside a checkout of jsharp), versions and device."""
    return {
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()})",
    }


def source() -> str:
    """A fingerprint of the project's Python files and of the versions they run on.

    Results kept from an earlier run are used again only where it is the same.
    """
    root = Path(__file__).resolve().parents[1]
    versions = [metadata.version(name) for name in (*PACKAGES, "scipy")]
    digest = hashlib.sha256(repr(versions).encode())
    for package in ("jsharp", "theory", "experiments"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str | None:
    here = Path(__file__).resolve()
    git = lambda *words: subprocess.run(
        ["git", "-C", str(here.parent), *words],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    try:
        # A virtual environment may lie in the checkout of some other project.
        top = Path(git("rev-parse", "--show-toplevel"))
        ours = (top / "jsharp" / here.name).exists()
        return git("describe", "--always", "--dirty") if ours else None
    except (OSError, subprocess.CalledProcessError):
        return None
