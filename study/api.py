"""``Study``: the whole tool from Python. The commands of ``oraclegap`` are thin over it.

    from study import Study

    study = Study.from_spec("digits").launch()
    study.trials(), study.selection, study.summary(), study.export()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import UserError
from study.spec import StudySpec
from study.spec_file import own_folder

if TYPE_CHECKING:
    import pandas

    from study.launch import Progress
    from study.ledger import Ledger
    from study.register import Registered

DEFAULT_ROOT = "runs"


class Study:
    """A study: its spec and its folder ``<root>/<name>``. Creating one reads and writes nothing."""

    def __init__(self, spec: StudySpec, folder: str | Path):
        folder = Path(folder)
        # "." has no parent to find MLflow and earlier reveals in
        self.spec, self.folder = spec, folder if folder.name not in ("", "..") else folder.resolve()
        self.failed_jobs: list[str] = []  # reasons of the jobs of the last reveal that failed

    def __repr__(self) -> str:
        begun = (self.folder / "spec.toml").exists()
        if not begun:
            return f"Study({str(self.folder)!r}, not begun)"
        found = self.status()
        return f"Study({str(self.folder)!r}, {found['stage']}, {found['ended']} of {found['total']} trials ended)"

    @classmethod
    def from_spec(
        cls, spec: str | Path | StudySpec, *, overrides: list[str] | dict[str, Any] | None = None,
        root: str | Path | None = None,
    ) -> Study:
        """The study of a spec file, of a ready spec's name, of a study's folder, or of a ``StudySpec``. Raises ``UserError``.

        It lies in ``<root>/<name>``; without a ``root``, in ``runs``, or where it lies already, if ``spec`` is the folder of a
        study or the ``spec.toml`` in one: so a study that was moved goes on where it is.
        """
        if isinstance(spec, StudySpec):
            return cls(spec, Path(root or DEFAULT_ROOT) / spec.name)
        found = StudySpec.load(spec, overrides)
        own = None if root else own_folder(spec)
        if own and StudySpec.load(own / "spec.toml").name == found.name:  # another name asks for a study of its own
            if own.resolve().name != found.name:
                raise UserError(f"{own}: the study in this folder is called {found.name}; give the folder its name back")
            return cls(found, own)
        return cls(found, Path(root or DEFAULT_ROOT) / found.name)

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """The study that an earlier launch left in ``folder``. Raises ``UserError`` where there is none."""
        folder = Path(folder)
        if not (folder / "spec.toml").is_file():
            raise UserError(f"{folder}: no study here (no spec.toml); `oraclegap list` shows those in {DEFAULT_ROOT}/")
        return cls(StudySpec.load(folder / "spec.toml"), folder)

    # -- running -------------------------------------------------------------------------------------------------

    def launch(
        self, *, stop_after: str | None = None, offline: bool = False, skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Study:
        """Runs what is not done yet: prepare, search, freeze, reveal, report. Returns the study itself.

        ``stop_after`` is ``"search"``, ``"freeze"`` or ``None``; ``offline`` leaves MLflow out; ``skip_bad`` goes on
        without unreadable image files and records them. Raises ``UserError``, ``EnvironmentProblem``.
        """
        from study.run import run

        run(self, stages=("search", "freeze", "reveal"), stop_after=stop_after, offline=offline, skip_bad=skip_bad,
            progress=progress)
        return self

    def freeze(self, *, offline: bool = False, progress: Progress | None = None) -> dict[str, Any]:
        """Freezes the selection over the trials that have ended and returns it."""
        from study.run import run

        run(self, stages=("freeze",), offline=offline, progress=progress)
        return self.selection

    def reveal(self, *, offline: bool = False, progress: Progress | None = None) -> dict[str, Any]:
        """Opens the vault under the frozen selection, measures every trial, and returns the summary."""
        from study.run import run

        run(self, stages=("reveal",), offline=offline, progress=progress)
        return self.summary()

    def analyse(
        self, *, offline: bool = False, progress: Progress | None = None, questions: list[str] | str | None = None,
        scorers: list[str] | str | None = None, oracles: list[str] | None = None, course: int | None = None,
    ) -> dict[str, Any]:
        """Asks a revealed study its questions, without training anything (but for ``course``), and returns the summary.

        ``questions``, ``scorers`` (or "all"), ``oracles`` and ``course`` replace what the spec's ``[analysis]`` says.
        Raises ``UserError`` where nothing is revealed or a name is unknown.
        """
        from study.run import run

        given = {"questions": questions, "scorers": scorers, "oracles": oracles, "course": course}
        changed = {f"analysis.{key}": value for key, value in given.items() if value is not None}
        if changed:
            self.spec = self.spec.changed(changed)
        run(self, stages=("analyse",), offline=offline, progress=progress)
        return self.summary()

    def report(self) -> Path:
        """Writes ``report/`` anew from what is on disk; returns the path of ``index.html``."""
        from study.launch import write_outputs

        write_outputs(self.spec, self.folder, self.summary())
        return self.folder / "report" / "index.html"

    def export(self, method: str | None = None, *, split: int | None = None, onnx: bool = False) -> Path:
        """Writes the frozen best of ``method`` (default: the method that freeze ranked first); returns its folder.

        ``onnx``: with ``model.onnx``, checked against PyTorch. Raises ``UserError`` where its packages are missing.
        """
        from study.export import export

        return export(self.spec, self.folder, self.selection, method=method, split=split, onnx=onnx)

    def register(
        self, name: str, *, alias: str | None = None, method: str | None = None, split: int | None = None,
        onnx: bool = False,
    ) -> Registered:
        """Exports, then registers the export in the study's MLflow as the next version of the model ``name``.

        Returns its name, version and URI. Raises ``UserError`` for a name or alias that MLflow does not take.
        """
        from study.register import register

        path = self.export(method, split=split, onnx=onnx)
        return register(self.folder, path, name=name, alias=alias)

    # -- reading -------------------------------------------------------------------------------------------------

    def trials(self) -> pandas.DataFrame:
        """One row a trial: method, split, number, state, reason, train_seconds, ``params_*`` and ``signals_*``."""
        import pandas

        return pandas.DataFrame([
            {
                "method": t.method, "split": t.split, "number": t.number, "state": t.state, "reason": t.reason,
                "train_seconds": t.train_seconds, **{f"params_{k}": v for k, v in t.params.items()},
                **{f"signals_{k}": v for k, v in t.signals.items()},
            }
            for t in (self.ledger().trials() if self.has_ledger() else [])
        ])

    @property
    def selection(self) -> dict[str, Any]:
        """``selection.json``. Raises ``UserError`` where nothing is frozen or the file was changed."""
        from study.selection import frozen_selection

        return frozen_selection(self.folder)

    def summary(self) -> dict[str, Any]:
        """``summary.json``, gathered anew from ledger, selection, reveals and what was measured for the questions."""
        from study.analyse import summarise_with_answers

        self.require_begun()
        self.selection  # noqa: B018  (raises where nothing is frozen)
        return summarise_with_answers(self.ledger(), self.folder)

    def status(self) -> dict[str, Any]:
        """Where the study stands: ``stage``, trials by state for each method and split, and the next command."""
        from study.status import status

        return status(self)

    def audit(self) -> dict[str, Any]:
        """Whether the numbers can be believed: ``believed``, and a state and words for each check."""
        from study.audit import audit

        return audit(self)

    def plan(self) -> dict[str, Any]:
        """What a launch would run; starts and writes nothing."""
        from study.plan import plan

        return plan(self.spec, self.folder)

    def has_ledger(self) -> bool:
        """Whether there is a record of trials to look into."""
        return bool(self.spec.resources.ledger) or (self.folder / "ledger.db").exists()

    def require_begun(self) -> None:
        """Raises ``UserError`` unless the study was launched before."""
        if not (self.folder / "spec.toml").is_file():
            raise UserError(f"{self.folder}: this study was not launched yet; run `oraclegap launch` first")

    def ledger(self) -> Ledger:
        """The study's record of trials, an Optuna storage."""
        from study.ledger import Ledger

        return Ledger(self.spec, self.folder)
