"""``search.warm_start``: what another study's trials showed, as history for the sampler and for nothing else.

The other study's trials are copied once, when this study begins, into ``warm_start.json`` with a digest; whatever becomes of
the other study, this one continues bit for bit. They are no trials of this study: they count in no budget, take no number,
and can be neither selected nor revealed. Only the sampler sees them, before the trials of this study.

**What may be remembered.** The value of ``selection.signal``, which is computed from nominal images alone, of completed trials
whose *view* is this study's, digest for digest. A study of other splits would not do, though its signals are nominal, too: its
nominal classes may be this study's anomalies, which would reach the search through them.

**A study that was revealed** may be remembered: its nominal signals do not change by a reveal, and no measured AUROC is read.
But whoever chose it may have known its AUROCs. That is what ``prior_reveals`` counts, so its reveals are copied along and
counted even where the other study lies under another root. It is not ``contaminated``, which means that this study's own trials
were chosen among with the answer known; none of the trials here can be chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import UserError
from study.reveal_log import WARM_START as FILE
from study.reveal_log import reveals_of
from trainables.files import digest_of, read_json, write_json

if TYPE_CHECKING:
    from study.spec import StudySpec

#: CMA-ES starts from the best tenth of what it is given, so a tenth must be one at least.
LEAST_FOR_CMAES = 10
#: (method, split) → [{"params": searched parameters, "value": of selection.signal}], the oldest first
History = dict[tuple[str, int], list[dict[str, Any]]]


def check_source(spec: StudySpec, folder: Path) -> None:
    """Before anything is prepared: raises ``UserError`` unless the other study can be remembered, as far as its spec and
    ledger tell. Nothing is read once this study has begun."""
    if not spec.search.warm_start or (folder / "spec.toml").exists():
        return
    source, other = Path(spec.search.warm_start), _other(spec, folder)
    if not set(other.methods) & set(spec.methods):
        raise UserError(f"search.warm_start: {source} has none of the methods {', '.join(spec.methods)}")
    if not other.resources.ledger and not (source / "ledger.db").exists():
        raise UserError(f"search.warm_start: {source} has no trials yet; launch it first")


def begin(spec: StudySpec, folder: Path) -> None:
    """Writes ``warm_start.json`` when a study begins; afterwards makes sure that it is still the same. ``UserError``."""
    if not spec.search.warm_start:
        return
    if (folder / "spec.toml").exists():
        remembered(spec, folder)
        return
    content = _gathered(spec, folder)
    write_json(folder / FILE, {**content, "digest": digest_of(_decides(content)), "reveals_digest": digest_of(content["reveals"])})


def remembered(spec: StudySpec, folder: Path) -> History:
    """The history of each (method, split) of a study that has begun. ``UserError`` where its file is missing or changed."""
    if not spec.search.warm_start:
        return {}
    stored = read_json(folder / FILE)
    whole = isinstance(stored, dict) and stored.get("digest") == digest_of(_decides(stored))
    if not whole or stored.get("reveals_digest") != digest_of(stored.get("reveals")):
        what = "was changed" if (folder / FILE).exists() else "is missing"
        raise UserError(f"{folder / FILE}: {what}; the search cannot go on as it began without it, put it back")
    found: History = {}
    for trial in stored["trials"]:
        found.setdefault((trial["method"], trial["split"]), []).append({"params": trial["params"], "value": trial["value"]})
    return found


def _decides(content: dict[str, Any]) -> dict[str, Any]:
    """What the sampler goes by. Not the other study's reveals, which name its sealed images: the stamp carries this digest, and
    nothing that is made of anomalies."""
    return {key: value for key, value in content.items() if key not in ("digest", "reveals", "reveals_digest")}


def _other(spec: StudySpec, folder: Path) -> StudySpec:
    from study.spec import StudySpec

    source = Path(spec.search.warm_start)
    if not (source / "spec.toml").is_file():
        raise UserError(f"search.warm_start: {source}: no study here (no spec.toml); give its folder, such as runs/digits")
    if source.resolve() == folder.resolve():
        raise UserError(f"search.warm_start: {source} is this study itself")
    return StudySpec.load(source / "spec.toml")


def _gathered(spec: StudySpec, folder: Path) -> dict[str, Any]:
    """What of the other study fits: same method, same view, the signal known, parameters within this study's space."""
    from study.ledger import Ledger

    source, other, signal = Path(spec.search.warm_start), _other(spec, folder), spec.selection.signal
    mine = {_view(folder, split): split for split in spec.data.splits}
    theirs = {split: mine[_view(source, split)] for split in other.data.splits if _view(source, split) in mine}
    if not theirs:
        raise UserError(
            f"search.warm_start: {source} was searched on other nominal images than these (no split has the same view); "
            "its signals may tell of images that are anomalies here, so only a study of the same [data] can be remembered"
        )
    kept, left_out = [], 0
    for trial in Ledger(other, source).trials():
        if trial.state != "completed" or trial.method not in spec.methods or trial.split not in theirs:
            continue
        params = _fitting(spec, trial.method, trial.params)
        if params is None or signal not in trial.signals:
            left_out += 1
            continue
        kept.append({"method": trial.method, "split": theirs[trial.split], "number": trial.number, "params": params,
                     "value": trial.signals[signal]})
    if not kept:
        raise UserError(
            f"search.warm_start: no completed trial of {source} lies within this study's space and has {signal}"
            + (f" ({left_out} do not)" if left_out else "")
        )
    _enough_for_cmaes(spec, kept)
    return {"study": other.name, "signal": signal, "trials": kept, "left_out": left_out, "reveals": reveals_of(source)}


def _enough_for_cmaes(spec: StudySpec, kept: list[dict[str, Any]]) -> None:
    for name in {(trial["method"], trial["split"]) for trial in kept} if spec.search.sampler == "cmaes" else ():
        number = sum((trial["method"], trial["split"]) == name for trial in kept)
        if number < LEAST_FOR_CMAES:
            raise UserError(
                f"search.warm_start: cmaes needs {LEAST_FOR_CMAES} trials of {name[0]}/{name[1]} to start from, and {number} fit; "
                "use tpe or gp"
            )


def _fitting(spec: StudySpec, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The searched parameters as this study's space writes them, or ``None`` where the configuration lies outside it."""
    space = spec.space(method)
    if set(params) != set(space.parameters):
        return None
    try:
        return space.searched_part(params)
    except ValueError:
        return None


def _view(folder: Path, split: int) -> str:
    """The digest of a split's nominal images; a name of its own where there is none, so that it equals no other."""
    manifest = read_json(folder / "view" / str(split) / "manifest.json") or {}
    return str(manifest.get("digest") or f"none of {folder}/{split}")
