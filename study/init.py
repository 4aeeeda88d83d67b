"""``oraclegap init``: looks at a folder of images and writes a commented spec that runs on it.

What it decides is written down with its reason, for the user to change: classes too rare to learn are not nominal, and the image
size is the largest usual one that does not enlarge half of the images.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.errors import UserError, nearest, one_line
from study.images import BadImage
from study.sources import open_source

RARE = 20  # images; fewer cannot be divided into training, validation and test and still say anything
LOOKED_AT = 300  # images decoded for their size
SIZES = (32, 48, 64, 96, 128)
GENTLE_SIZE = 64  # what a CPU can train a small network on in minutes


@dataclass(frozen=True)
class Seen:
    """What is in the folder: images of each class, and (height, width, channels) and complaints of a sample of files."""

    root: Path
    counts: dict[str, int]
    shapes: Counter
    bad: list[str]

    def rare(self) -> list[str]:
        return [name for name, count in self.counts.items() if count < RARE]


def look(folder: str | Path) -> Seen:
    """Reads a folder as the ``folder`` source does. Raises UserError where no study could be made of it."""
    root = Path(folder).expanduser()
    source = open_source({"source": "folder", "path": str(root), "image_size": 0})
    counts = dict(zip(source.class_names, map(int, np.bincount(source.labels, minlength=len(source.class_names)))))
    total = len(source.labels)
    sample = np.unique(np.linspace(0, total - 1, min(total, LOOKED_AT)).astype(int))
    shapes, bad = Counter(), []
    for index in sample:  # one by one: full-size photographs of a whole sample may not fit in memory
        (image,) = source.read([int(index)])
        if isinstance(image, BadImage):
            bad.append(f"{source.describe(int(index))}: {image.reason}")
        else:
            shapes[image.shape] += 1
    if not shapes:
        raise UserError(f"{root}: none of the {len(sample)} files looked at is an image; {bad[0]}")
    return Seen(root.resolve(), counts, shapes, bad)


def image_size(seen: Seen) -> int:
    """0 where all images are of one small size; else the largest of SIZES that half of the images reach, at most
    GENTLE_SIZE."""
    sides = sorted(side for (height, width, _), count in seen.shapes.items() for side in [min(height, width)] * count)
    alike = len({shape[:2] for shape in seen.shapes}) == 1
    if alike and max(next(iter(seen.shapes))[:2]) <= GENTLE_SIZE:
        return 0
    median = sides[len(sides) // 2]
    return max((size for size in SIZES if size <= min(median, GENTLE_SIZE)), default=SIZES[0])


def spec_text(seen: Seen, *, name: str, anomalies: Sequence[str] = ()) -> str:
    """The spec, as TOML with comments. Raises UserError for a class that is not there or too few that are left."""
    for wanted in anomalies:
        if wanted not in seen.counts:
            raise UserError(f"--anomaly {one_line(wanted, 80)}: no such class{nearest(wanted, list(seen.counts))}; there are "
                            f"{one_line(', '.join(seen.counts), 300)}")
    rare = [found for found in seen.rare() if found not in anomalies]
    nominal = [found for found in seen.counts if found not in (*anomalies, *rare)]
    if len(nominal) < 2:
        raise UserError(f"{seen.root}: a classifier needs at least 2 classes of {RARE} images or more beside the anomalies; there "
                        f"are {len(nominal)}")
    others = [*anomalies, *rare]
    size = image_size(seen)
    low, high = (f(seen.shapes, key=lambda shape: min(shape[:2])) for f in (min, max))
    pictured = f"{low[1]}x{low[0]}" + (f" to {high[1]}x{high[0]}" if low != high else "")
    left_out = f" Too rare to learn (fewer than {RARE}), so never nominal: {', '.join(rare)}." if rare else ""
    purpose = ("What the detector should notice; opened only after everything is chosen." if others else
               "None: the detector is chosen and exported all the same, but how well it notices is then not measured.")
    most, least = max(seen.counts, key=seen.counts.get), min(nominal, key=seen.counts.get)
    return f"""# Written by `oraclegap init {seen.root}`. Change what you know better, then: oraclegap launch {name}.toml
name = {json.dumps(name)}
methods = ["classifier", "hybrid"]      # or "all"; `oraclegap methods` describes them

[data]
source = "folder"
path = {_toml(str(seen.root))}
# {sum(seen.counts.values())} images in {len(seen.counts)} classes, {seen.counts[least]} ({least}) to {seen.counts[most]} ({most}) each.{left_out}
nominal_classes = {_list(nominal)}
# {purpose}
anomaly_classes = {_list(others)}
# Images are {pictured}; this is the side they are brought to (0: as they are). Larger ones show more and train slower.
image_size = {size}
splits = [0]                            # [0, 1, 2]: three divisions, which tells luck from skill

[training]
network = "small_cnn"                   # resnet18 or resnet34 where there is a GPU
epochs = 30
batch_size = 64

[search]
trials = 8                              # of each method; the first is its default configuration

[resources]
cpus_per_trial = 1                      # `oraclegap plan {name}.toml` says how long it will take
"""


def write_spec(folder: str | Path, *, name: str = "", anomalies: Sequence[str] = (), out: str | Path = "") -> tuple[Path, Seen]:
    """Writes ``<name>.toml`` (or ``out``), which must not be there yet, and returns its path and what was seen."""
    from study.spec import StudySpec

    seen = look(folder)
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", seen.root.name).strip("-._")[:64] or "study"
    path = Path(out or f"{name}.toml")
    text = spec_text(seen, name=name, anomalies=anomalies)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        StudySpec.load(path)
    except FileExistsError:
        raise UserError(f"{path} is there already; give another --out, or remove it") from None
    except UserError:
        path.unlink()  # a name that cannot be one
        raise
    return path, seen


def seen_text(seen: Seen, path: Path) -> str:
    """What was found, and what comes next."""
    lines = [f"{sum(seen.counts.values())} images in {len(seen.counts)} classes under {seen.root}"]
    if rare := seen.rare():
        told = ", ".join(f"{name} ({seen.counts[name]})" for name in rare)
        lines.append(f"too rare to learn, taken for anomalies: {one_line(told, 300)}")
    if seen.bad:
        lines.append(f"{len(seen.bad)} of {len(seen.bad) + sum(seen.shapes.values())} files looked at cannot be used, such as "
                     f"{one_line(seen.bad[0], 200)}; `launch --skip-bad` goes on without such files")
    return "\n".join([*lines, f"wrote {path}; next: oraclegap launch {path}"])


def _list(names: Sequence[str]) -> str:
    """A TOML list, a name a line where there are many."""
    if sum(map(len, names)) < 60:
        return f"[{', '.join(map(_toml, names))}]"
    return "[\n" + "".join(f"    {_toml(name)},\n" for name in names) + "]"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
