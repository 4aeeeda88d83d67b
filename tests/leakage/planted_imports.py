"""Imports of the vault's module by code that runs before the freeze, planted in a copy of the packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACT = "Nothing that runs before the freeze reaches the vault"
#: Name → (file, what is put at its end).
IMPORTS = {
    "fold models read the vault": ("study/folds.py", "from study.vault import Vault\n"),
    "a dashboard of the search": ("study/search.py", "def show(folder):\n    from study.vault import Vault\n    print(Vault.load(folder))\n"),
    "a signal": ("analysis/signals.py", "def peek(folder):\n    import study.vault as sealed\n    return sealed.Vault.load(folder)\n"),
    "jobs, by way of another module": ("study/jobs.py", "from study.evidence import load_trial\n"),
}


def contracts(tree: Path) -> tuple[int, str]:
    """Exit code and words of import-linter over the packages in ``tree``."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def copy_of_packages(folder: Path) -> Path:
    for package in ("study", "trainables", "search_spaces", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def is_caught(tree: Path, name: str) -> bool:
    """Whether the contract breaks with that import in ``tree``, which is put right again."""
    file, text = IMPORTS[name]
    before = (tree / file).read_text()
    (tree / file).write_text(f"{before}\n\n{text}")
    try:
        code, said = contracts(tree)
    finally:
        (tree / file).write_text(before)
    return code == 1 and f"{CONTRACT} BROKEN" in said
