"""The whole of the metamorphic suite: every method, sampler, pruner, signal and transform, and every planted leak.

    python tests/leakage/soak_leaks.py [--seeds 5] [--rows N] [--folder FOLDER]

Honest studies: each transform of the anomalies × each seed, and each row of a covering array (``covering.py``: every pair of
values of method, sampler, pruner, signal and transform), must leave the digest of selection.json as it was, and nobody but
prepare may read the vault or the data set; a changed nominal image, the control, must give another. Each study runs
sequentially on one thread, and as many at a time as there are cores. Planted leaks: each must be caught by its defence.
`make soak` runs it; prints what went wrong and tables, exit 1 where something did.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if "conftest" not in sys.modules:  # as a script; with `tests` on the path, its folders would hide the packages of their names
    sys.modules["conftest"] = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location("conftest", HERE.parent / "conftest.py"))
    sys.modules["conftest"].__spec__.loader.exec_module(sys.modules["conftest"])
sys.path.append(str(HERE.parent / "study"))

import planted  # noqa: E402
import planted_imports  # noqa: E402
import test_audit  # noqa: E402
from conftest import TINY, digits_npz, overrides, run  # noqa: E402
from covering import Row, study_rows  # noqa: E402
from leak_runs import SEQUENTIAL, command, entry_digests, listening, opens, selection_of  # noqa: E402
from test_planted import noticed  # noqa: E402
from transforms import TRANSFORMS, changed_nominal_image, few, unchanged  # noqa: E402

TELLING = ("deleted", "noise", "multiplied by ten")  # transforms by which planted methods are told
TAMPERED = (test_audit.another_trial, test_audit.an_anomaly_to_train_on, test_audit.a_reveal_before_the_freeze)
CONTROL = "a nominal image"


@dataclass(frozen=True)
class Unit:
    """A study, and the transforms under which it is run again."""

    name: str
    pairs: list[str]
    transforms: list[str]
    seed: int = 0
    small: bool = True  # fewer nominal images
    rows: tuple[Row, ...] = ()  # of the covering array


def units(seeds: int, rows: int | None) -> list[Unit]:
    """All honest studies, the longest first: the default study for each seed, and those of the array, grouped by what they
    share."""
    groups: dict[tuple, list[Row]] = {}
    for row in study_rows()[:rows]:
        groups.setdefault((row["sampler"], row["pruner"], row["signal"]), []).append(row)
    found = []
    for seed in range(seeds):
        pairs = ["search.trials=6", *_epochs(2), f"data.seeds=[{seed}]", f"data.splits=[{seed}]"]
        found.append(Unit(f"seed-{seed}", pairs, [*TRANSFORMS, CONTROL], seed=seed, small=False))
    for number, ((sampler, pruner, signal), held) in enumerate(groups.items()):
        methods, names = (list(dict.fromkeys(row[key] for row in held)) for key in ("method", "transform"))
        pairs = [f"methods={methods}", f"search.sampler={sampler}", f"search.pruner={pruner}", f"selection.signal={signal}",
                 "search.trials=5", "selection.folds=2",  # the fifth is the first that a sampler learns for
                 *_epochs(1 if pruner == "none" else 4)]
        found.append(Unit(f"{number:02d}-{sampler}-{pruner}-{signal}", pairs, names, seed=number, rows=tuple(held)))
    return sorted(found, key=lambda unit: -len(unit.transforms))


def _epochs(number: int) -> list[str]:
    return [f"training.epochs={number}", f"training.csi.epochs={min(number, 2)}"]


# -- honest studies -----------------------------------------------------------------------------------------------------


def chosen(folder: Path, change: Callable, unit: Unit) -> dict[str, Any]:
    """selection.json of a study of this process; it is exported, too, as one may before the reveal."""
    from study import Study

    folder.mkdir(parents=True)
    data = digits_npz(folder / "digits.npz", change=lambda *arrays: change(*(few(*arrays) if unit.small else arrays)))
    pairs = [*SEQUENTIAL, "training.batch_size=64", "name=honest", f"data.path={data}", *unit.pairs]
    study = Study.from_spec("digits", overrides=pairs, root=folder).launch(stop_after="freeze", offline=True)
    study.export()
    return study.selection


def work(seeds: int, rows: int | None, folder: Path) -> None:
    """Runs the units that no other process has begun, over one cluster; a JSON line on stdout for each study."""
    from study.runtime import ray_cluster
    from study.spec import ResourcesSpec

    with ray_cluster(ResourcesSpec(address="local")):
        for unit in units(seeds, rows):
            try:
                (folder / unit.name).mkdir()
            except FileExistsError:
                continue
            reference = chosen(folder / unit.name / "reference", unchanged, unit)
            methods = [entry["method"] for entry in reference["selections"]]
            for name in unit.transforms:
                change = functools.partial(TRANSFORMS.get(name, changed_nominal_image), seed=unit.seed)
                found = chosen(folder / unit.name / name.replace(" ", "-"), change, unit)
                print(json.dumps({"unit": unit.name, "transform": name, "same": found["digest"] == reference["digest"],
                                  "methods": methods}), flush=True)
            for place in (folder / unit.name).iterdir():  # in a process of its own, for the hook would hear it
                subprocess.run(["rm", "-rf", place], check=True)


def honest(seeds: int, rows: int | None, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Parts of the table, and problems."""
    words = ["--work", "--seeds", str(seeds), "--folder", str(folder), *(["--rows", str(rows)] if rows is not None else [])]
    processes = {}
    for number in range(os.cpu_count() or 1):
        (place := folder / f"process-{number}").mkdir()
        with open(place / "stderr", "w") as errors:
            processes[place] = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, stderr=errors,
                                                text=True, env={**os.environ, **listening(place)})
    lines = [json.loads(line) for process in processes.values() for line in process.communicate()[0].splitlines()]
    problems = [f"{place}/stderr: ended with {process.returncode}" for place, process in processes.items() if process.returncode]
    result = {(line["unit"], line["transform"]): line for line in lines}
    problems += [f"{unit}: {name} of the anomalies gives another digest" if name != CONTROL else f"{unit}: {name} gives the same"
                 for (unit, name), line in result.items() if line["same"] == (name == CONTROL)]
    by_seed = [(unit.name, name) for unit in units(seeds, 0) for name in TRANSFORMS]
    array = [(unit.name, row) for unit in units(0, rows) for row in unit.rows]
    held = [(name, row) for name, row in array if _is_held(result.get((name, row["transform"])), row)]
    problems += [f"{name}: not shown for {row}" for name, row in array if (name, row) not in held]
    outside = [line for place in processes for line in opens(place)]
    problems += [f"the vault was opened by {line['role']}: {line['opened']} ({' < '.join(line['by'])})" for line in outside[:20]]
    same = sum(result.get(key, {}).get("same", False) for key in by_seed)
    moved = sum(not line["same"] for (_, name), line in result.items() if name == CONTROL)
    return {f"{len(TRANSFORMS)} transforms × {seeds} seeds": f"{same} of {len(by_seed)} identical",
            "covering array": f"{len(held)} of {len(array)}",
            "studies": str(len(result) + len({unit for unit, _ in result})),
            "changed nominal image": f"{moved} of {seeds} noticed", "openings of the vault before the freeze": str(len(outside)),
            }, problems


def _is_held(line: dict[str, Any] | None, row: Row) -> bool:
    """Whether the study of a row chose the same, and of that row's method anything at all."""
    return line is not None and line["same"] and row["method"] in line["methods"]


# -- planted leaks ------------------------------------------------------------------------------------------------------


def leaky(folder: Path, what: str, name: str, pairs: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """selection.json of a study with planted leaks, under a transform, and who opened its vault."""
    place = folder / f"{what}-{name.replace(' ', '-')}"
    place.mkdir()
    shutil.copy(HERE / "planted.py", place)
    selection = selection_of(place, TRANSFORMS.get(name, unchanged), *pairs)
    if what == "methods" and name == "reference":
        command("export", "runs/tiny", "--method", "exportthreshold", cwd=place)
    return selection, opens(place)


def plugged(folder: Path) -> list[tuple[str, str, set[str], set[str]]]:
    """(leak, channel, defences that noticed it, those that should) of every leak that is a plug-in."""
    tasks = [("methods", name, planted.settings(planted.METHODS)) for name in ("reference", *TELLING)]
    tasks += [(what, name, ['methods=["classifier"]', *pairs]) for what, (pairs, _) in planted.ALONE.items()
              for name in ("reference", "deleted")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {task[:2]: result for task, result in
                 zip(tasks, pool.map(lambda task: leaky(folder, *task), tasks), strict=True)}
    rows = []
    selection, heard_of = found["methods", "reference"]
    for name, planted_leak in planted.METHODS.items():
        seen = set().union(*(noticed(name, heard_of, entry_digests(selection), entry_digests(found["methods", change][0]))
                             for change in TELLING))
        rows.append((name, planted_leak.channel, seen, set(planted_leak.caught_by)))
    for name, (_, planted_leak) in planted.ALONE.items():
        selection, heard_of = found[name, "reference"]
        seen = ({"opens"} if heard_of else set()) | (
            {"digest"} if selection["digest"] != found[name, "deleted"][0]["digest"] else set())
        rows.append((name, planted_leak.channel, seen, set(planted_leak.caught_by)))
    return rows


def imported(folder: Path) -> list[tuple[str, str, set[str], set[str]]]:
    tree = planted_imports.copy_of_packages(folder / "tree")
    assert planted_imports.contracts(tree)[0] == 0
    return [(file, name, {"import contract"} if planted_imports.is_caught(tree, name) else set(), {"import contract"})
            for name, (file, _) in planted_imports.IMPORTS.items()]


def tampered(folder: Path) -> list[tuple[str, str, set[str], set[str]]]:
    """A finished study in which somebody chose again, or trained on what was sealed, and made all digests fit."""
    done = run("launch", "digits", "--offline", *overrides(*TINY, *SEQUENTIAL[2:]), cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr
    assert run("audit", "runs/tiny", cwd=folder).returncode == 0
    rows = []
    for tamper in TAMPERED:
        shutil.copytree(folder / "runs", folder / tamper.__name__)
        names, _ = tamper(folder / tamper.__name__ / "tiny")
        said = run("audit", folder / tamper.__name__ / "tiny", cwd=folder)
        caught = said.returncode == 1 and all(name in said.stdout.splitlines()[-1] for name in names)
        rows.append(("a finished study", tamper.__name__.replace("_", " "), {"audit"} if caught else set(), {"audit"}))
    return rows


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="only so many of the covering array")
    parser.add_argument("--folder", type=Path, help="an empty one, which is kept")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seeds, options.rows, options.folder)
        return 0
    began, folder = time.monotonic(), options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    leaks = [row for find in (plugged, imported, tampered) for row in find(folder)]
    for name, channel, seen, expected in leaks:
        print(f"| {name} | {channel} | {', '.join(sorted(seen)) or 'NOBODY'} |"
              + ("" if seen == expected else f" expected: {', '.join(sorted(expected))}"), flush=True)
    table, problems = honest(options.seeds, options.rows, folder)
    caught = sum(bool(seen) and seen >= expected for _, _, seen, expected in leaks)
    table["planted"] = f"{caught} of {len(leaks)} caught"
    table["minutes"] = str(round((time.monotonic() - began) / 60, 1))
    print("\n".join(problems))
    print("; ".join(f"{what}: {found}" for what, found in table.items()))
    right = not problems and caught == len(leaks)
    if right and not options.folder:
        shutil.rmtree(folder)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
