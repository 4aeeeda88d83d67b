"""The whole of the metamorphic suite: every transform of the anomalies, every planted leak.

    python tests/leakage/soak_leaks.py [--seeds 5] [--folder FOLDER]

Honest studies: six transforms × five seeds must leave the selection's digest as it was, and nobody but prepare may open the
vault before the freeze. Planted leaks: each must be caught, by another digest under some transform or by the openings that
the hook hears. `make soak` runs it; prints a line for each and a table, exit 1 where one is wrong.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import planted

HERE = Path(__file__).parent
if "conftest" not in sys.modules:  # as a script; with `tests` on the path, its folders would hide the packages of their names
    sys.modules["conftest"] = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location("conftest", HERE.parent / "conftest.py"))
    sys.modules["conftest"].__spec__.loader.exec_module(sys.modules["conftest"])

from transforms import TRANSFORMS, opens, selection_of, unchanged  # noqa: E402

ONE = ['methods=["classifier"]']  # an honest study of one method: the others have their own tests
TELLING = ("deleted", "noise", "multiplied by ten")  # transforms by which a planted leak may be told, until one does


def honest(folder: Path, seeds: int) -> tuple[int, int, int]:
    """Digests that stayed, of how many, and openings of the vault."""
    same = total = opened = 0
    for seed in range(seeds):
        more = [*ONE, f"data.seeds=[{seed}]"]
        reference = selection_of(folder / f"honest-{seed}", unchanged, *more)["digest"]
        opened += len(opens(folder / f"honest-{seed}"))
        for name, change in TRANSFORMS.items():
            place = folder / f"honest-{seed}-{name.replace(' ', '-')}"
            found = selection_of(place, functools.partial(change, seed=seed), *more)["digest"]
            opened += len(opens(place))
            same, total = same + (found == reference), total + 1
            print(f"seed {seed}, {name}: {'the same' if found == reference else 'ANOTHER DIGEST'}", flush=True)
    return same, total, opened


def leak(folder: Path, name: str) -> set[str]:
    """Which defences notice a planted leak."""
    pairs, expected = planted.LEAKS[name]
    pairs = [*([] if any(pair.startswith("methods") for pair in pairs) else ONE), *pairs]

    def run(what: str, change) -> tuple[str, list[str]]:
        place = folder / f"{name}-{what}".replace(" ", "-")
        place.mkdir()
        shutil.copy(HERE / "planted.py", place)
        return selection_of(place, change, *pairs)["digest"], opens(place)

    reference, heard = run("reference", unchanged)
    noticed = {"opens"} if heard else set()
    for what in TELLING if "digest" in expected else ():
        if run(what, TRANSFORMS[what])[0] != reference:
            return noticed | {"digest"}
    return noticed


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder")
    options = parser.parse_args()
    folder, began = Path(options.folder or tempfile.mkdtemp()), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    same, total, opened = honest(folder, options.seeds)
    caught = 0
    for name, (_, expected) in planted.LEAKS.items():
        noticed = leak(folder, name)
        caught += bool(noticed) and noticed >= expected
        print(f"{name}: noticed by {', '.join(sorted(noticed)) or 'NOBODY'} (expected: {', '.join(sorted(expected))})", flush=True)
    print(json.dumps({"identical": f"{same} of {total}", "vault_opens_before_freeze": opened,
                      "planted_caught": f"{caught} of {len(planted.LEAKS)}",
                      "minutes": round((time.monotonic() - began) / 60, 1)}))
    return 0 if same == total and not opened and caught == len(planted.LEAKS) else 1


if __name__ == "__main__":
    sys.exit(main())
