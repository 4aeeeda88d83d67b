"""Many figures at once: drawn in as many processes as there are cores, since matplotlib computes in one.

Run as a module, it is such a helper: a pickled list of figures on standard input, what was drawn on standard output.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.card import Figure
from analysis.machine import cores
from analysis.plot_base import Drawn, finish

WORTH = 4  # figures that take as long as a helper takes to import what it needs
MOST_HELPERS = 7
BEGINS = b"\n-- drawn figures, pickled --\n"


def draw_figures(figures: Mapping[str, Figure]) -> dict[str, Drawn]:
    """Every figure in all its forms, under its key."""
    helpers = min(cores(), len(figures) // WORTH, MOST_HELPERS + 1) - 1
    processes = 1 + max(0, helpers)
    shares = [list(figures)[first::processes] for first in range(processes)]
    started = []
    for share in shares[1:]:
        with contextlib.suppress(OSError, pickle.PicklingError, AttributeError, TypeError):  # one that cannot travel: drawn here
            started.append((share, _Helper([figures[key] for key in share])))
    try:
        found = {key: _drawn(figures[key]) for key in shares[0]}
        for share, helper in started:
            found |= zip(share, helper.drawn() or [], strict=False)
    finally:
        for _, helper in started:
            helper.end()
    return {key: found.get(key) or _drawn(figure) for key, figure in figures.items()}


class _Helper:
    def __init__(self, figures: Sequence[Figure]):
        """Raises what pickle does for a figure that only this process knows how to draw."""
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        with tempfile.TemporaryFile() as work:  # a pipe would keep us waiting until the helper has imported what it needs
            pickle.dump(list(figures), work)
            work.seek(0)
            self.answer = tempfile.TemporaryFile()  # noqa: SIM115 (closed by ``end``)
            self.process = subprocess.Popen(  # -P: no module of the folder where the command was given
                [sys.executable, "-P", "-m", "analysis.plot_together"], stdin=work, stdout=self.answer, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def drawn(self) -> list[Drawn] | None:
        """What it drew, or None where it failed: drawn again by this process, whoever waits is told the mistake."""
        if self.process.wait():
            return None
        self.answer.seek(0)
        found = self.answer.read().partition(BEGINS)[2]  # whatever else was printed comes before
        try:
            return pickle.loads(found)
        except (pickle.UnpicklingError, EOFError):
            return None

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.answer.close()


def _drawn(figure: Figure) -> Drawn:
    return finish(figure.name, figure.data, figure.draw, figure.alt, figure.caption)


def _help() -> None:
    answer, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever else is printed must not get between
    answer.write(BEGINS + pickle.dumps([_drawn(figure) for figure in pickle.load(sys.stdin.buffer)]))
    answer.flush()


if __name__ == "__main__":
    _help()
