"""stamp.json: what a study was made with, so that its numbers can be made again."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("oraclegap", "torch", "torchvision", "ray", "optuna", "mlflow", "scikit-learn", "numpy", "scipy")


def stamp(folder: Path, *, spec, command: list[str] | None = None) -> dict[str, Any]:
    """Versions, git state, device, data digests and the command. Holds no environment variable and no password."""
    from trainables.files import read_json

    splits = spec.data.splits
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command or ["oraclegap", *sys.argv[1:]],
        "python": platform.python_version(), "platform": platform.platform(), "packages": _versions(),
        "git": _git_state(Path(__file__).parent), "device": _device(),
        # The vault's digest is added by reveal: before it, nothing that is made from anomalies is passed on.
        "data": {
            str(split): {"view": (read_json(folder / "view" / str(split) / "manifest.json") or {}).get("digest")}
            for split in splits
        },
        **({"warm_start": (read_json(folder / "warm_start.json") or {}).get("digest")} if spec.search.warm_start else {}),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that this package runs from, or ``None`` where it is installed."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parent:
            return None  # installed inside somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _device() -> str:
    import os

    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
