"""The commands that keep house: list the studies, clean one, and what a shell completes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from study.completion import SHELLS
from study.errors import EXIT_DONE, UserError


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds them; ``command(name, run, text)`` makes a parser."""
    sub = command("list", _list, "list the studies under a root: state, trials, the selected best, size, last change")
    sub.add_argument("--root", default="runs", help="where studies lie (default: runs)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub = command("clean", _clean, "delete files of a study that are not needed any more, after saying exactly which")
    sub.add_argument("study", metavar="STUDY", help="a study's folder, such as runs/digits")
    sub.add_argument("--what", default="scratch,checkpoints", metavar="KIND,…",
                     help="scratch, checkpoints (both by default), exports, job-models, features, models, or all")
    sub.add_argument("--yes", action="store_true", help="delete without asking")
    sub = command("completion", _completion, "print what makes a shell complete commands, options, specs and folders")
    sub.add_argument("shell", choices=SHELLS, help="put `source <(oraclegap completion bash)` into ~/.bashrc, or zsh into ~/.zshrc; "
                                                   "fish: into ~/.config/fish/completions/oraclegap.fish")


def _list(options: argparse.Namespace) -> int:
    import json
    import shutil

    from study.shelf import studies, text

    rows = studies(Path(options.root))
    print(json.dumps(rows, indent=1) if options.json else text(rows, width=shutil.get_terminal_size((120, 24)).columns))
    return EXIT_DONE


def _clean(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.clean import kinds_of, pieces, remove, text
    from study.console import size_text
    from study.ledger import launch_lock

    study, kinds = Study.open(options.study), kinds_of(options.what)
    with launch_lock(study.folder):
        found = pieces(study, kinds)
        print(text(study, found))
        if not found:
            return EXIT_DONE
        if not options.yes and not _agreed():
            print("nothing was deleted")
            return EXIT_DONE
        print(f"deleted {size_text(remove(study, found))}")
    return EXIT_DONE


def _agreed() -> bool:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UserError("clean: nobody to ask here, and nothing was deleted; add --yes to delete what is listed above")
    try:
        return input("delete them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _completion(options: argparse.Namespace) -> int:
    from study.cli import build_parser
    from study.completion import script
    from study.spec_file import ready_specs

    print(script(options.shell, build_parser(), ready_specs()), end="")
    return EXIT_DONE
