"""What there is to choose from – methods, scorers, signals, oracles, networks, sources – told from their records.

    python -m study.reference README.md        writes the tables between the README's markers anew

The README holds ``<!-- methods:begin -->`` … ``<!-- methods:end -->`` (likewise scorers, signals, oracles, questions, where it
has them); what stands between is generated, from the built-in ones only, and a test compares. ``oraclegap methods`` prints
all, plug-ins too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from study.errors import UserError

NETWORKS = {
    "small_cnn": "a residual CNN of three stages that a CPU can train; z of 128 (64 for images below 12 pixels) × width",
    "resnet18": "torchvision's ResNet-18, with a 3×3 stem up to 64 pixels; z of 512",
    "resnet34": "torchvision's ResNet-34, likewise: the network of the original study; z of 512",
    "resnet18_torchvision": "torchvision's ResNet-18 with its own stem at any size, as its pretrained weights need; z of 512",
    "resnet34_torchvision": "ResNet-34 likewise; z of 512",
    "resnet50_torchvision": "ResNet-50 likewise; z of 2048",
}
SOURCES = {
    "digits": "scikit-learn's 1,797 real 8×8 digits; no path, no network",
    "folder": "images in path/<class>/, or path/{train,test}/<class>/",
    "cifar10": "CIFAR-10 as torchvision keeps it; download = true fetches it",
    "cifar100": "CIFAR-100 likewise",
    "fashion_mnist": "Fashion-MNIST's four idx files, plain or gzipped",
    "npz": "a NumPy archive with images, labels and, optionally, class_names",
}


LOOKED_AT = {"trial": "every trial", "selected": "selected trials", "group": "all trials of a method and split together",
             "": "what is measured already"}


# ------------------------------------------------------------------------------------------------------ tables
def methods_table() -> str:
    """The built-in methods as Markdown: name, what defines it, its own scores, what it costs, its paper."""
    from trainables.methods import built_in, get_method

    lines = []
    for name in built_in():
        method = get_method(name)
        info = method.info
        notes = [info.summary, *(f"needs {need}" for need in info.needs)]
        notes += [] if info.pruning_safe else ["not to be pruned: early epochs do not tell late ones"]
        lines.append((f"`{name}`", "; ".join(notes), _codes(method.own_scorers), f"{info.relative_cost:g}",
                      _paper(info.paper, info.year, info.url)))
    return _markdown(("method", "what defines it", "own scores", "cost", "paper"), lines, numeric=("cost",))


def scorers_table() -> str:
    """The built-in scorers as Markdown; "default" are those that a spec uses when it names none."""
    from analysis.scorers import DEFAULT_SCORERS, REGISTRY

    order = [*DEFAULT_SCORERS, *(name for name in REGISTRY if name not in DEFAULT_SCORERS)]
    infos = [REGISTRY[name].info for name in order if _ours(REGISTRY[name])]
    return _markdown(("scorer", "anomaly score", "family", "default", "linear head", "paper"), [
        (f"`{info.name}`", info.title, info.family, "yes" if info.name in DEFAULT_SCORERS else "",
         "needed" if "head" in info.needs else "", _paper(info.paper, info.year, info.url)) for info in infos])


def signals_table() -> str:
    """The signals as Markdown: what each is, which way is better, what it costs in trainings of one trial."""
    from analysis.signals import get_signal, signal_names

    infos = [get_signal(name) for name in signal_names() if not _plugin("signal", name)]
    return _markdown(("signal", "what it is", "better", "cost", "paper"), [
        (f"`{info.name}`", info.title, {"maximize": "higher", "minimize": "lower"}[info.direction], info.cost,
         _paper(info.paper, None, info.url)) for info in infos])


def oracles_table() -> str:
    """The oracles as Markdown."""
    from analysis.oracles import get_oracle, oracle_names

    infos = [get_oracle(name).info for name in oracle_names() if not _plugin("oracle", name)]
    return _markdown(("oracle", "what it is", "paper"), [
        (f"`{info.name}`", info.title, _paper(info.paper, info.year, info.url)) for info in infos])


def questions_table() -> str:
    """The questions that a revealed study is asked, as Markdown."""
    from analysis.questions import all_questions

    return _markdown(("question", "in words", "looks at"), [
        (f"`{question.name}`", question.title, LOOKED_AT[question.scope if question.measure else ""])
        for question in all_questions()])


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods_table, "scorers": scorers_table, "signals": signals_table, "oracles": oracles_table,
    "questions": questions_table}


def _markdown(titles: tuple[str, ...], lines: Iterable[tuple[str, ...]], numeric: tuple[str, ...] = ()) -> str:
    rule = "|" + "|".join("--:" if title in numeric else "---" for title in titles) + "|"
    body = ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(titles) + " |", rule, *body])


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _paper(paper: str, year: int | None, url: str) -> str:
    text = f"{paper}, {year}" if year else paper
    return f"[{text}]({url})" if url else text


def _ours(kind: type) -> bool:
    return kind.__module__.startswith("analysis.")


def _plugin(kind: str, name: str) -> bool:
    from analysis import plugins

    return name in plugins.names(kind)


# ------------------------------------------------------------------------------------------------------ README
def rewritten(text: str) -> str:
    """A README's text with every marked block written anew. UserError for a marker without its partner, or no methods."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin not in text and end not in text and name != "methods":
            continue
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise UserError(f"the README needs one {begin} and after it one {end}")
        block = f"{begin}\n{table()}\n{end}"
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


# ----------------------------------------------------------------------------------------------------- command
def available() -> dict[str, list[dict[str, Any]]]:
    """Everything by kind, plug-ins included: {"methods": [{"name", "line", …}], "scorers", …}."""
    from analysis.oracles import get_oracle, oracle_names
    from analysis.plugins import PluginError
    from analysis.questions import all_questions
    from analysis.scorers import DEFAULT_SCORERS, get_scorer, scorer_names
    from analysis.signals import get_signal, signal_names
    from study.sources import source_names
    from trainables.methods import get_method, method_names
    from trainables.networks import network_names

    def told(name: str, line: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "line": " ".join(line.split()), **more}

    def method(name: str) -> dict[str, Any]:
        found = get_method(name)
        info = found.info
        return told(name, info.summary, title=info.title, own_scorers=list(found.own_scorers),
                    relative_cost=info.relative_cost, paper=info.paper, year=info.year, url=info.url)

    def scorer(name: str) -> dict[str, Any]:
        info = get_scorer(name).info
        return told(name, info.title, family=info.family, default=name in DEFAULT_SCORERS)

    def signal(name: str) -> dict[str, Any]:
        info = get_signal(name)
        return told(name, info.title, direction=info.direction, cost=info.cost)

    def each(names: list[str], line: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for name in names:
            try:
                found.append(line(name))
            except PluginError as error:  # an installed one that is broken must not hide all others
                found.append(told(name, f"cannot be loaded: {error}"))
        return found

    return {
        "methods": each(method_names(), method), "scorers": each(scorer_names(), scorer),
        "signals": each(signal_names(), signal),
        "oracles": each(oracle_names(), lambda name: told(name, get_oracle(name).info.title)),
        "questions": [told(question.name, question.title) for question in all_questions()],
        "networks": [told(name, NETWORKS.get(name, "a plug-in")) for name in network_names()],
        "sources": [told(name, SOURCES.get(name, "a plug-in")) for name in source_names()],
    }


def available_text(found: dict[str, list[dict[str, Any]]], *, width: int = 100) -> str:
    """`available` as plain text: a block for each kind, a name and a line for each."""
    import textwrap

    blocks = []
    for kind, items in found.items():
        column = max((len(item["name"]) for item in items), default=0) + 2
        lines = [kind]
        for item in items:
            own = f"; own scores: {', '.join(item['own_scorers'])}" if item.get("own_scorers") else ""
            lines.append(textwrap.fill(item["line"] + own, width, initial_indent=f"  {item['name']:<{column}}",
                                       subsequent_indent=" " * (column + 2), break_on_hyphens=False))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def main(arguments: list[str]) -> int:
    """Writes the tables of each file named anew."""
    from trainables.files import write_atomic

    for name in arguments:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            write_atomic(path, new)
        print(f"{path}: {'written' if new != text else 'up to date'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:] or ["README.md"]))
    except UserError as error:
        sys.exit(f"study.reference: {error}")
