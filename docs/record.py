"""Runs the commands that the documentation shows and writes what they printed to ``docs/output/``.

    python docs/record.py --images …/cifar10 [--only tutorial images]

So no output on a page was typed by hand. A step is a command line as a reader would type it; long outputs keep their beginning and end,
and say how many lines are left out. Needs ``oraclegap`` on the PATH (or beside this Python), a folder of CIFAR-10 images
(``train/<class>/*.jpg``) and some minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OUTPUT = Path(__file__).parent / "output"
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class Book:
    """Runs commands in one folder and writes each page's part of what they printed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def shell(self, line: str, *, expect: int = 0) -> str:
        """What a command printed, after its prompt."""
        done = subprocess.run(["bash", "-c", line], cwd=self.folder, env=ENVIRONMENT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != expect:
            raise SystemExit(f"{line}: exit {done.returncode}, not {expect}\n{done.stdout}")
        code = f"[exit {done.returncode}]\n" if expect else ""
        return f"$ {line}\n{done.stdout.replace(str(self.folder), '~')}{code}"

    def page(self, name: str, *parts: str, head: int = 60, tail: int = 40) -> None:
        """Writes one file of ``docs/output``."""
        OUTPUT.mkdir(exist_ok=True)
        text = "\n".join(shortened(part.rstrip() + "\n", head, tail) for part in parts)
        (OUTPUT / name).write_text(re.sub(r"[ \t]+\n", "\n", text), encoding="utf-8")
        print(f"docs/output/{name}: {len(text.splitlines())} lines", flush=True)


def shortened(text: str, head: int, tail: int) -> str:
    lines = text.splitlines(keepends=True)
    if len(lines) <= head + tail + 1:
        return text
    return "".join([*lines[:head], f"… {len(lines) - head - tail} lines left out …\n", *lines[-tail:]])


def digit_pictures(folder: Path) -> None:
    """One picture of each digit."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    (folder / "photos").mkdir()
    for digit in range(10):
        image = digits.images[np.flatnonzero(digits.target == digit)[3]]
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / "photos" / f"{digit}.png")


def tutorial(folder: Path, images: Path) -> None:
    """The pages on digits."""
    book = Book(folder)
    digit_pictures(folder)
    book.page("plan.txt", book.shell("oraclegap plan digits"), head=14, tail=8)
    book.page("launch.txt", book.shell("oraclegap launch digits"), head=12, tail=34)
    book.page("status.txt", book.shell("oraclegap status runs/digits"))
    book.page("audit.txt", book.shell("oraclegap audit runs/digits"))
    book.page("export.txt", book.shell("oraclegap export runs/digits --method classifier"))
    book.page("detect.txt", book.shell("oraclegap detect runs/digits/export/classifier photos --format table"))
    book.page("acceptance.txt", book.shell(
        "oraclegap detect runs/digits/export/classifier photos --format table --acceptance 0.99"))
    book.page("list.txt", book.shell("oraclegap list"))
    book.page("doctor.txt", book.shell("oraclegap doctor digits"))


def uneven(images: Path, folder: Path) -> None:
    """CIFAR-10's images as uneven as a collection is; see ``docs/howto/images.md``."""
    import numpy as np
    from PIL import Image

    for source in sorted((images / "train").iterdir()):
        target = folder / "photos" / source.name
        target.mkdir(parents=True)
        count = {"cat": 30, "truck": 5}.get(source.name, 300)
        for path in sorted(source.iterdir())[:count]:
            shutil.copy(path, target / path.name)
    random = np.random.default_rng(0)
    deer = folder / "photos" / "deer"
    for number, path in enumerate(sorted(deer.iterdir())[:5]):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        path.unlink()
        for shot in range(4):  # a specimen's photos: shifted a little, another light
            moved = np.roll(pixels, (shot % 2, shot // 2), axis=(0, 1)) + random.integers(-12, 13)
            Image.fromarray(moved.clip(0, 255).astype(np.uint8)).save(deer / f"stag{number}_{shot + 1}.png")
    for name, content in (("airplane/broken.jpg", b""), ("bird/half.jpg", None), ("ship/text.jpg", b"no image\n")):
        path = folder / "photos" / name
        path.write_bytes(content if content is not None else next((folder / "photos/bird").iterdir()).read_bytes()[:300])


def images_page(folder: Path, images: Path) -> None:
    """The page on a folder of one's own, from `init` to `detect`."""
    book = Book(folder)
    uneven(images, folder)
    book.page("init.txt", book.shell("oraclegap init photos --anomaly frog --anomaly horse --name uneven"))
    (OUTPUT / "uneven.toml").write_text((folder / "uneven.toml").read_text().replace(str(folder), "~"), encoding="utf-8")
    book.page("uneven-launch.txt", book.shell("oraclegap launch uneven.toml", expect=2),
              book.shell("oraclegap launch uneven.toml --skip-bad"), head=14, tail=30)
    shutil.copytree(folder / "photos" / "frog", folder / "new" / "frog")
    shutil.copytree(images / "test" / "airplane", folder / "new" / "airplane")
    book.page("uneven-detect.txt", book.shell("oraclegap export runs/uneven"), book.shell(
        "oraclegap detect runs/uneven/export/* new/frog --format csv | cut -d, -f2 | sort | uniq -c | sort -rn"), book.shell(
        "oraclegap detect runs/uneven/export/* new/airplane --format csv | cut -d, -f2 | sort | uniq -c | sort -rn"))


def notebook(folder: Path, images: Path) -> None:
    """Executes the notebook and keeps its outputs in it."""
    import nbformat
    from nbclient import NotebookClient

    path = Path(__file__).parent / "notebooks" / "first_study.ipynb"
    made = nbformat.read(path, as_version=4)
    NotebookClient(made, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # its times, which change nothing but the file
        if "outputs" in cell:  # what libraries say of this machine's Jupyter on standard error
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(made, path)
    print(f"{path}: executed")


PAGES = {"tutorial": tutorial, "images": images_page, "notebook": notebook}


def main() -> None:
    """Records the pages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of CIFAR-10 images")
    parser.add_argument("--only", nargs="+", choices=list(PAGES), default=list(PAGES))
    parser.add_argument("--keep", type=Path, help="work there and leave the studies")
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as made:
            folder = (options.keep or Path(made)) / name
            folder.mkdir(parents=True)
            PAGES[name](folder, options.images.resolve())


if __name__ == "__main__":
    main()
