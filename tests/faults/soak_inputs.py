"""Every bad spec and bad data set of the tests, as a user meets them: a process of its own, timed.

    python tests/faults/soak_inputs.py

Right is: exit 2, one line on stderr that names what is wrong, no traceback, nothing written,
within 3 s beyond what a good spec takes to be read (`oraclegap plan`, measured first: Python and its imports).
Prints what was not, a table, and exits 1 where anything was wrong. `make soak` runs it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tomli_w
from bad_data import CASES

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "study"))  # last, and not `tests` itself: its folders would hide the packages of their names
from test_spec import BAD, MINIMAL  # noqa: E402

COMMAND = [sys.executable, "-m", "study"]


def run(arguments: list[str], cwd: Path) -> tuple[int, str, float]:
    """Exit code, stderr, seconds."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip(), time.monotonic() - began


def wrong(code: int, said: str, seconds: float, *, words, left: set, limit: float) -> str:
    """What is wrong with an answer, or ""."""
    if code != 2:
        return f"exit {code}, not 2: {said[-200:]}"
    if len(said.splitlines()) != 1 or not said.startswith("oraclegap: "):
        return f"not one line: {said[-300:]}"
    missing = [word for word in words if word not in said]
    if missing:
        return f"{missing} is not in: {said}"
    return f"left {left}" if left else f"took {seconds:.1f} s" if seconds > limit else ""


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def main() -> int:
    """Both tables."""
    with tempfile.TemporaryDirectory() as name:
        cwd = Path(name)
        reading = statistics.median(run(["plan", "digits"], cwd)[2] for _ in range(3))
        limit, problems, slowest, counts = reading + 3, [], 0.0, {"specs": [0, 0], "data": [0, 0]}
        cases = [("specs", name, change, words) for name, (change, words) in BAD.items()]
        cases += [("data", name, build, words) for name, (build, words) in CASES.items()]
        for number, (kind, what, given, words) in enumerate(cases):
            folder = cwd / str(number)
            folder.mkdir()
            if kind == "specs":
                (folder / "my.toml").write_text(tomli_w.dumps({**MINIMAL, **given}))
                arguments = ["launch", "my.toml"]
            else:
                pairs = [f"data.{key}={json.dumps(value)}" for key, value in given(folder).items()]
                arguments = ["launch", "digits", "--offline", *(word for pair in pairs for word in ("-o", pair))]
            before = contents(folder)
            code, said, seconds = run(arguments, folder)
            problem = wrong(code, said, seconds, words=words, left=contents(folder) - before, limit=limit)
            slowest = max(slowest, seconds)
            counts[kind][0] += not problem
            counts[kind][1] += 1
            problems += [f"{what}: {problem}"] if problem else []
    print("; ".join(f"{kind}: {right} of {of} right" for kind, (right, of) in counts.items())
          + f"; slowest {slowest:.1f} s, a good spec is read in {reading:.1f} s")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
