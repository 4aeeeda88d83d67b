"""``oraclegap init``: looks at a folder of images and writes a commented spec that runs on it.

What it decides is written down with its reason, for the user to change: classes too rare to learn are anomalies, classes of
very unequal size are drawn equally often, photos whose names tell their specimen stay together, and the image size is the
largest usual one that does not enlarge half of the images.
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
from study.groups import NEEDED
from study.images import BadImage
from study.init_groups import Suggestion, suggest
from study.sources import open_source

RARE = 20  # images; fewer cannot be divided into training, validation and test and still say anything
UNEQUAL = 3  # times as many images in the largest class as in the smallest: then accuracy is mostly that of the large ones
LOOKED_AT = 300  # images decoded for their size
SIZES = (32, 48, 64, 96, 128)
GENTLE_SIZE = 64  # what a CPU can train a small network on in minutes


@dataclass(frozen=True)
class Seen:
    """What is in the folder: files of each class, and (height, width, channels) and complaints of a sample of files."""

    root: Path
    files: dict[str, list[str]]
    shapes: Counter
    bad: list[str]

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(files) for name, files in self.files.items()}

    def rare(self) -> list[str]:
        return [name for name, count in self.counts.items() if count < RARE]


def look(folder: str | Path) -> Seen:
    """Reads a folder as the ``folder`` source does. Raises UserError where no study could be made of it."""
    root = Path(folder).expanduser()
    source = open_source({"source": "folder", "path": str(root), "image_size": 0})
    files: dict[str, list[str]] = {name: [] for name in source.class_names}
    for index, label in enumerate(source.labels.tolist()):
        files[source.class_names[label]].append(source.describe(index))
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
    return Seen(root.resolve(), files, shapes, bad)


def image_size(seen: Seen) -> int:
    """0 where all images are of one small size; else the largest of SIZES that half of the images reach, at most
    GENTLE_SIZE."""
    sides = sorted(side for (height, width, _), count in seen.shapes.items() for side in [min(height, width)] * count)
    alike = len({shape[:2] for shape in seen.shapes}) == 1
    if alike and max(next(iter(seen.shapes))[:2]) <= GENTLE_SIZE:
        return 0
    median = sides[len(sides) // 2]
    return max((size for size in SIZES if size <= min(median, GENTLE_SIZE)), default=SIZES[0])


@dataclass(frozen=True)
class Plan:
    """What ``spec_text`` has decided: classes that are learnt, rare ones, named anomalies, and how photos are grouped."""

    learnt: list[str]
    rare: list[str]
    named: list[str]
    grouping: Suggestion | None
    pieces: dict[str, int]  # of each class: groups where they are sure, else images

    @property
    def measurable(self) -> bool:
        """Whether some anomaly class can be split in three, as the oracles need it."""
        return any(self.pieces[name] >= NEEDED for name in (*self.named, *self.rare))


def decide(seen: Seen, anomalies: Sequence[str]) -> Plan:
    """Raises UserError for a class that is not there, too few that are left, or named anomalies that can measure nothing."""
    for wanted in anomalies:
        if wanted not in seen.counts:
            raise UserError(f"--anomaly {one_line(wanted, 80)}: no such class{nearest(wanted, list(seen.counts))}; there are "
                            f"{one_line(', '.join(seen.counts), 300)}")
    rare = [found for found in seen.rare() if found not in anomalies]
    learnt = [found for found in seen.counts if found not in (*anomalies, *rare)]
    if len(learnt) < 2:
        raise UserError(f"{seen.root}: a classifier needs at least 2 classes of {RARE} images or more beside the anomalies; there "
                        f"are {len(learnt)}")
    grouping = suggest(seen.files, learnt)
    pieces = grouping.counts if grouping and grouping.sure else seen.counts
    plan = Plan(learnt, rare, list(anomalies), grouping, pieces)
    if plan.named and not plan.measurable:
        raise UserError(f"--anomaly {one_line(anomalies[0], 80)}: too few images to measure anything by; some anomaly class needs "
                        f"{NEEDED} at least{' that are not of one specimen' if pieces is not seen.counts else ''}")
    return plan


def spec_text(seen: Seen, *, name: str, anomalies: Sequence[str] = ()) -> str:
    """The spec, as TOML with comments. Raises UserError for a class that is not there or too few that are left."""
    plan, counts = decide(seen, anomalies), seen.counts
    size = image_size(seen)
    low, high = (f(seen.shapes, key=lambda shape: min(shape[:2])) for f in (min, max))
    pictured = f"{low[1]}x{low[0]}" + (f" to {high[1]}x{high[0]}" if low != high else "")
    purpose = ("What the detector should notice; opened only after everything is chosen." if plan.named else
               "None but the rare ones: what the detector should notice; opened only after everything is chosen." if
               plan.rare and plan.measurable else
               "None: the detector is chosen and exported all the same, but how well it notices is then not measured.")
    most, least = max(counts, key=counts.get), min(plan.learnt, key=counts.get)
    sampler, signal = _balance(plan, counts)
    return f"""# Written by `oraclegap init {one_line(seen.root)}`. Change what you know better, then: oraclegap launch {name}.toml
name = {json.dumps(name)}
methods = ["classifier", "hybrid"]      # or "all"; `oraclegap methods` describes them

[data]
source = "folder"
path = {_toml(str(seen.root))}
# {sum(counts.values())} images in {len(counts)} classes, {counts[least]} ({least}) to {counts[most]} ({most}) each.
nominal_classes = {_list([found for found in counts if found not in plan.named])}
# {purpose}
anomaly_classes = {_list(plan.named)}
{_rare(plan, counts)}{_group(plan.grouping)}# Images are {pictured}; this is the side they are brought to (0: as \
they are). Larger ones show more and train slower.
image_size = {size}
splits = [0]                            # [0, 1, 2]: three divisions, which tells luck from skill

[training]
network = "small_cnn"                   # resnet18 or resnet34 where there is a GPU
epochs = 30
batch_size = 64
{sampler}
[search]
trials = 8                              # of each method; the first is its default configuration
{signal}
[resources]
cpus_per_trial = 1                      # `oraclegap plan {name}.toml` says how many trainings, and hours once one trial has run
"""


def _rare(plan: Plan, counts: dict[str, int]) -> str:
    """``rare`` and ``rare_below``, where a class is too rare to learn or a named anomaly too rare to be split."""
    tiny = [name for name in plan.named if plan.pieces[name] < NEEDED]
    if not plan.rare and not tiny:
        return ""
    told = f"Too rare to learn (fewer than {RARE} images): {', '.join(f'{name} ({counts[name]})' for name in plan.rare)}. "
    kept = ('"anomaly" makes them what the detector should notice, "drop" leaves them out.' if plan.measurable else
            '"drop" leaves them out: too few even to measure how well a detector notices them.')
    if not plan.rare:
        told, kept = f"Too few images to be split, so all for the test: {', '.join(tiny)}.", ""
    mode = "anomaly" if plan.measurable else "drop"
    return f"# {told}{kept}\nrare = \"{mode}\"\nrare_below = {RARE}\n"


def _group(found: Suggestion | None) -> str:
    """``group``: in force where names leave hardly a doubt, else as a comment."""
    if found is None:
        return ""
    name, files = found.largest
    seen = (f"{found.shared:.0%} of the files share the start of their names with another, such as the {files} of "
            f"{one_line(name, 40)}")
    line = f"group = '{found.group}'\n"  # a literal string: backslashes stay as they are
    if found.sure:
        return (f"# {seen}, and are\n# numbered within it: taken for photos of one specimen, which stay together in training, "
                f"validation or test.\n# Remove it if they are not.\n{line}")
    return (f"# {seen}.\n# If they show one specimen, keep them together in training, validation or test (or give a table, "
            f'group = "who.csv", with\n# the columns path and group): else what is measured is partly memory.\n# {line}')


def _balance(plan: Plan, counts: dict[str, int]) -> tuple[str, str]:
    """Lines for [training] and [selection] where nominal classes are of very unequal size."""
    sizes = [counts[name] for name in plan.learnt]
    if max(sizes) < UNEQUAL * min(sizes):
        return "", ""
    times = f"{max(sizes) / min(sizes):.1f} times"
    sampler = f"# The largest class has {times} the images of the smallest: each is drawn equally often, so that all are learnt."
    signal = "# Picks the trial with every class counted alike; val_accuracy would be mostly that of the large ones."
    return f'{sampler}\nsampler = "balanced"\n', f'\n[selection]\n{signal}\nsignal = "val_balanced_accuracy"\n'


def write_spec(folder: str | Path, *, name: str = "", anomalies: Sequence[str] = (), out: str | Path = "") -> tuple[Path, Seen]:
    """Writes ``<name>.toml`` (or ``out``), which must not be there yet, and returns its path and what was seen."""
    from study.spec import StudySpec

    seen = look(folder)
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", seen.root.name).strip("-._")[:64] or "study"
    path = Path(out or f"{name}.toml")
    text = spec_text(seen, name=name, anomalies=anomalies)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{one_line(seen.root, 200)}: a spec is UTF-8, which cannot hold this name; rename it") from None
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        raise UserError(f"{path} is there already; give another --out, or remove it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        StudySpec.load(path)
    except BaseException:  # a name that cannot be one
        path.unlink()
        raise
    return path, seen


def seen_text(seen: Seen, path: Path) -> str:
    """What was found, and what comes next."""
    lines = [f"{sum(seen.counts.values())} images in {len(seen.counts)} classes under {seen.root}"]
    if rare := seen.rare():
        told = ", ".join(f"{name} ({seen.counts[name]})" for name in rare)
        lines.append(f"too rare to learn, so not nominal: {one_line(told, 300)}")
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
