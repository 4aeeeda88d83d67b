"""``gpus_per_trial = "auto"``: how many trials share a card, by the memory that one takes; and how busy the cards were.

The first epoch of each method's default configuration is trained alone on a whole card, and its peak decides. What is measured
is written to ``gpu.json`` in the study's folder.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.runtime import Cluster, trials_on_a_card
from study.spec import StudySpec
from trainables.files import read_json, write_json

if TYPE_CHECKING:
    from trainables.data import View

RECORD = "gpu.json"
#: Where no memory can be measured, such as on a card that Ray was told of but torch does not see.
UNMEASURED_SHARE = 0.25
#: More trials on one card than this take turns rather than share.
MOST_ON_A_CARD = 16
#: Other configurations of the space may need more than the default one.
MARGIN = 1.25
SAMPLE_SECONDS = 5.0
PATIENCE = 900.0  # seconds for a whole card to become free and an epoch of each method to be trained on it


def share_of_a_card(peak_bytes: int, total_bytes: int) -> float:
    """The share for a trial whose tensors take ``peak_bytes`` of ``total_bytes``: 1/n for the largest n trials that fit,
    between 1/16 and 1, rounded down to Ray's four digits so that n of them are no more than a card."""
    if peak_bytes <= 0 or total_bytes <= 0:
        raise ValueError(f"{peak_bytes} of {total_bytes} bytes: both must be above 0")
    from trainables.inference import CONTEXT_BYTES

    fit = int(total_bytes // (MARGIN * peak_bytes + CONTEXT_BYTES))
    return int(10_000 / max(1, min(fit, MOST_ON_A_CARD))) / 10_000


def known_share(folder: Path) -> float | None:
    """What an earlier launch measured, or None."""
    return (read_json(folder / RECORD) or {}).get("gpus_per_trial")


def settled(
    spec: StudySpec, cluster: Cluster, folder: Path, *, views: dict[int, View], say: Callable[[str], None] = lambda line: None,
) -> Cluster:
    """The cluster with a measured ``gpus_per_trial`` and a note that says so; as it is where none is to be measured.
    ``say`` hears that measuring begins."""
    if spec.resources.gpus_per_trial != "auto" or not cluster.gpus:
        return cluster
    if share := known_share(folder):
        return replace(cluster, gpus_per_trial=share)
    import ray

    say("measuring how many trials share a GPU")
    training = {method: spec.training.for_method(method) for method in spec.methods}
    params = {method: spec.space(method).default() for method in spec.methods}
    # max_calls: the process ends with its task, else it would keep the memory that it measured
    task = ray.remote(num_cpus=cluster.cpus_per_trial, num_gpus=1, max_retries=1, max_calls=1)(peak_memory)
    asked = task.remote(views[spec.data.splits[0]], params, training, max(1, int(cluster.cpus_per_trial)))
    try:
        found = ray.get(asked, timeout=PATIENCE)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked, force=True)
        found = {"problem": f"no whole card was free and measured within {PATIENCE / 60:.0f} minutes"}
    except ray.exceptions.RayError as error:
        found = {"problem": " ".join(str(getattr(error, "cause", error)).split())[-200:]}
    if "peaks" not in found:
        note = (f"GPU memory could not be measured ({found['problem']}): each trial gets {UNMEASURED_SHARE:g} of a GPU; set "
                "resources.gpus_per_trial to choose another share")
        return replace(cluster, gpus_per_trial=UNMEASURED_SHARE, notes=(*cluster.notes, note))
    dearest = max(found["peaks"], key=found["peaks"].get)
    share = share_of_a_card(found["peaks"][dearest], found["total"])
    write_json(folder / RECORD, {**found, "gpus_per_trial": share})
    note = (f"{found['gpu']} of {found['total'] / 2**30:.0f} GiB: an epoch of {dearest} takes {found['peaks'][dearest] / 2**30:.1f} "
            f"GiB, so {trials_on_a_card(share)} trials share a card")
    return replace(cluster, gpus_per_trial=share, notes=(*cluster.notes, note))


def peak_memory(view: View, params: dict[str, dict], training: dict[str, dict], threads: int) -> dict[str, Any]:
    """Runs in a worker with a whole card: bytes that torch reserved for one epoch, evaluation included, of each method."""
    import torch

    from trainables.fit import Diverged, TrainSettings, fit

    if not torch.cuda.is_available():
        return {"problem": "torch sees no CUDA device"}
    peaks = {}
    for method, configuration in params.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        settings = TrainSettings(**{**training[method], "epochs": 1}, device="cuda", threads=threads)
        try:
            fit(method=method, view=view, params=configuration, settings=settings, seed=0)
        except Diverged:
            pass  # it has used its memory all the same
        except torch.cuda.OutOfMemoryError:
            peaks[method] = torch.cuda.get_device_properties(0).total_memory
            continue
        peaks[method] = torch.cuda.max_memory_reserved()
    return {"gpu": torch.cuda.get_device_name(0), "total": torch.cuda.get_device_properties(0).total_memory, "peaks": peaks}


@contextmanager
def watched(folder: Path, *, seconds: float = SAMPLE_SECONDS) -> Iterator[list[str]]:
    """Asks this machine's ``nvidia-smi`` how busy its cards are while the block runs; the list that it yields then holds one
    line about it, and ``gpu.json`` the numbers. Nothing where there is no ``nvidia-smi``."""
    lines: list[str] = []
    program = shutil.which("nvidia-smi")
    if program is None:
        yield lines
        return
    samples: list[tuple[float, float]] = []
    ended = threading.Event()
    watcher = threading.Thread(target=_sample, args=(program, samples, ended, seconds), daemon=True, name="gpu-watch")
    watcher.start()
    try:
        yield lines
    finally:
        ended.set()
        watcher.join(timeout=10)
        if samples:
            lines.append(_summary(samples, folder))


def _sample(program: str, samples: list[tuple[float, float]], ended: threading.Event, seconds: float) -> None:
    while True:
        if found := ask_cards(program):
            samples.append(found)
        if ended.wait(seconds):
            return


def ask_cards(program: str) -> tuple[float, float] | None:
    """(share of the time that a kernel ran, memory used in bytes), means over this machine's cards; None if it cannot say."""
    try:
        told = subprocess.run(
            [program, "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"], capture_output=True,
            text=True, timeout=10, check=True).stdout
        cards = [tuple(float(cell) for cell in line.split(",")) for line in told.strip().splitlines()]
        busy, used = zip(*cards)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return sum(busy) / len(cards) / 100, sum(used) / len(cards) * 2**20


def _summary(samples: list[tuple[float, float]], folder: Path) -> str:
    busy = sum(sample[0] for sample in samples) / len(samples)
    most = max(sample[1] for sample in samples)
    write_json(folder / RECORD, {**(read_json(folder / RECORD) or {}), "busy": busy, "most_used_bytes": int(most),
                                     "samples": len(samples)})
    return (f"this machine's GPUs were busy {busy:.0%} of the search, with {most / 2**30:.1f} GiB used at most ({len(samples)} "
            "samples of nvidia-smi)")
