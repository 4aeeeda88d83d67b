"""A trial as Ray Tune sees it: the ``fit`` loop, one or more epochs a step, on the CPUs and the share of a GPU it has.

The only module of this package that knows Ray. Nothing of a trial lives in Tune: its state is in its own folder, from
which a restarted worker, a moved trial or a new launch continues. Actors are reused, since importing torch costs
seconds and a trial may cost less.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ray import tune

from trainables.files import derive_seed, read_json, write_json
from trainables.trial import failure_reason, train_settings

#: A report costs the driver about 10 ms, an epoch of a tiny study less: report at most this often, in seconds.
REPORT_SECONDS = 2.0


class StudyTrainable(tune.Trainable):
    """Trains one configuration; bound to its views and settings by ``tune.with_parameters``.

    ``config`` holds ``method``, ``split``, ``number`` and ``params``; ``views`` maps a split to its ``View`` (from
    Ray's object store, read without a copy); ``shared`` holds the plain values that all trials have in common.
    """

    def setup(self, config: dict[str, Any], views: dict | None = None, shared: dict | None = None) -> None:
        self._views, self._shared = views, shared
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        from trainables.fit import Training

        name = (config["method"], config["split"], config["number"])
        folder = Path(self._shared["trials"], *map(str, name))
        seed = derive_seed("trial", self._shared["seed"], *name)
        settings = train_settings(self._shared, config["method"])
        record = {"method": name[0], "split": name[1], "number": name[2], "params": config["params"], "seed": seed,
                  "training": {**self._shared["training"][config["method"]]}, "view_digest": self._views[name[1]].digest}
        self._every_epoch = config["prunable"]
        self._training, self._failure, self._resumed = None, None, []
        try:
            if read_json(folder / "config.json") != record:
                write_json(folder / "config.json", record)
            self._training = Training(
                method=config["method"], view=self._views[config["split"]], params=config["params"],
                settings=settings, seed=seed, folder=folder,
            )
            # Told again, since a pruner may not have heard of the last one; whoever has heard takes no notice.
            self._resumed = [row for row in self._training.rows if row]
        except Exception as error:  # a configuration that cannot be built is an outcome, not a crash
            self._failure = failure_reason(error)

    def step(self) -> dict[str, Any]:
        """Trains until something is worth reporting; the last report carries the trial's outcome."""
        rows, self._resumed = self._resumed, []
        if self._failure:
            return _last_report(rows, {"reason": self._failure})
        started = time.monotonic()
        try:
            while not self._training.done:
                rows.append(self._training.step())
                if self._every_epoch or time.monotonic() - started > REPORT_SECONDS:
                    break
            if not self._training.done:
                return {"rows": rows, "done": False}
            result = self._training.finish()
        except Exception as error:
            return _last_report(rows, {"reason": failure_reason(error)})
        return _last_report(rows, {"signals": result["signals"], "train_seconds": result["train_seconds"]})

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial's folder is its checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: ``setup`` has read the trial's folder."""


def _last_report(rows: list[dict[str, Any]], outcome: dict[str, Any]) -> dict[str, Any]:
    """A list around the outcome, since Tune flattens dictionaries (not lists) before its searcher sees them."""
    return {"rows": rows, "outcome": [outcome], "done": True}
