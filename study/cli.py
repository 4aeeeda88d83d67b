"""The commands. Parsing imports nothing heavy, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from study import cli_shelf, cli_tools
from study.errors import (
    EXIT_AUDIT_FAILED,
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    EXIT_USER,
    OracleGapError,
    one_line,
)

EPILOG = """exit codes: 0 done · 1 audit failed · 2 your input · 3 the environment · 4 some trials failed · 130 interrupted,
launch again to continue"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return EXIT_USER
    try:
        return options.run(options) or EXIT_DONE
    except OracleGapError as error:
        if options.debug:
            raise
        _tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        _tell("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough, such as `head`
        sys.stdout = None
        return EXIT_DONE
    except OSError as error:
        if options.debug:
            raise
        _tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
        return EXIT_ENVIRONMENT
    except Exception as error:  # a damaged file, a lost database, a mistake of ours: one line all the same
        if options.debug:
            raise
        _tell(f"{type(error).__name__}: {one_line(error, 300)} (--debug shows where)")
        return EXIT_ENVIRONMENT


def program() -> NoReturn:
    """The command ``oraclegap``.

    An interrupted one ends without Python's own end: threads of Ray and MLflow that are still at work may crash in it (2 of 20,
    by SIGSEGV, all after everything had been saved), and a shell would be told of a crash. What Ray has left, the watchdog ends.
    """
    code = main()
    if code == EXIT_INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _tell(problem: object) -> None:
    print(f"oraclegap: {one_line(problem)}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line; argparse's own way is to print the usage as well."""

    def error(self, message: str) -> NoReturn:
        _tell(f"{message}; `{self.prog} --help` shows what there is")
        raise SystemExit(EXIT_USER)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="oraclegap", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tune open-set and anomaly detectors without anomaly labels, then measure what was left.",
    )
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(run=run)
        sub.add_argument("--debug", action="store_true", help="show a traceback instead of one line")
        return sub

    for name, run, text in (
        ("plan", _plan, "show what a launch would run: trials, jobs, first configurations, cost, disk"),
        ("launch", _launch, "run a study, or continue it where it stands"),
    ):
        sub = command(name, run, text)
        sub.add_argument("spec", metavar="SPEC", help="a TOML file, the name of a ready spec (digits, cifar10, …), or a study's folder")
        sub.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="override a key of the spec, such as -o search.trials=4; may be repeated")
        sub.add_argument("--root", help="where studies lie (default: runs, or where the study lies that SPEC is the folder of)")
        if name == "plan":
            sub.add_argument("--json", action="store_true", help="print JSON")
        else:
            sub.add_argument("--stop-after", choices=("search", "freeze"), help="stop sooner")
            sub.add_argument("--offline", action="store_true", help="do not write to MLflow")
            sub.add_argument("--quiet", action="store_true", help="print errors and the last line alone")
            sub.add_argument("--skip-bad", action="store_true", help="leave unreadable images out and record them")
    for name, run, text in (
        ("status", _status, "show where a study stands"),
        ("freeze", _freeze, "fix the selection by nominal-only signals"),
        ("reveal", _reveal, "open the anomalies under the frozen selection and measure every trial"),
        ("analyse", _analyse, "ask a revealed study its questions anew, from cached features; add scorers and oracles"),
        ("report", _report, "write the report anew and print its table"),
        ("audit", _audit, "check whether a study's numbers can be believed: digests, order, sums done again"),
    ):
        sub = command(name, run, text)
        sub.add_argument("study", metavar="STUDY", help="a study's folder, such as runs/digits")
        if name in ("status", "report", "audit"):
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "analyse":
            _analyse_options(sub)
        if name in ("freeze", "reveal", "analyse"):
            sub.add_argument("--offline", action="store_true", help="do not write to MLflow")
    _others(command)
    cli_tools.add_to(command)
    cli_shelf.add_to(command)
    return parser


def _others(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that are not about one study or its spec."""
    sub = command("compare", _compare, "compare finished studies: what differs, and whether it is more than noise")
    sub.add_argument("studies", nargs="+", metavar="STUDY", help="two or more folders; the first is the one compared with")
    sub.add_argument("--out", metavar="FOLDER", help="write a page, its figures and compare.json there")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub = command("methods", _methods, "list the methods, scorers, signals, oracles, networks and sources there are")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub = command("ui", _ui, "open MLflow on the studies' gaps, on 127.0.0.1")
    sub.add_argument("--root", default="runs", help="where studies lie (default: runs)")
    sub.add_argument("--host", default="127.0.0.1", help="an address of this machine that only it can reach")
    sub.add_argument("--port", type=int, default=5000)
    sub.add_argument("--open", action="store_true", help="open a browser")


def _analyse_options(sub: argparse.ArgumentParser) -> None:
    names = {"type": lambda text: text if text == "all" else [name.strip() for name in text.split(",") if name.strip()]}
    sub.add_argument("--questions", metavar="NAME,…", help="only these, or all (default: what the spec says)", **names)
    sub.add_argument("--scorers", metavar="NAME,…", help="scorers to measure beside those in use, or all", **names)
    sub.add_argument("--oracles", metavar="NAME,…", help="oracles beside forest and linear", **names)
    sub.add_argument("--course", metavar="POINTS", type=int,
                     help="train each selected configuration once more and measure it at so many points (0: do not)")


def _analyse(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.console import Console

    study = Study.open(options.study)
    study.analyse(offline=options.offline, progress=Console(), questions=options.questions, scorers=options.scorers,
                  oracles=options.oracles, course=options.course)
    _print_table(study)
    print(f"report: {study.folder / 'report' / 'index.html'}")
    return _exit_code(study)


def _launch(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.console import Console

    study = Study.from_spec(options.spec, overrides=options.overrides, root=options.root)
    study.launch(stop_after=options.stop_after, offline=options.offline, skip_bad=options.skip_bad,
                 progress=Console(quiet=options.quiet, signal=study.spec.selection.signal))
    if options.stop_after is None:
        if not options.quiet:
            _print_table(study)
        print(f"report: {study.folder / 'report' / 'index.html'}")
    else:
        found = study.status()
        print(f"{found['stage']}: {study.folder}; next: {found['next']}")
    return _exit_code(study)


def _freeze(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.console import Console

    study = Study.open(options.study)
    selection = study.freeze(offline=options.offline, progress=Console())
    print(f"digest {selection['digest']}, frozen {selection['frozen_at']}")
    return EXIT_DONE


def _reveal(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.console import Console

    study = Study.open(options.study)
    study.reveal(offline=options.offline, progress=Console())
    _print_table(study)
    return _exit_code(study)


def _report(options: argparse.Namespace) -> int:
    import json

    from study.api import Study

    study = Study.open(options.study)
    path = study.report()
    if options.json:
        print(json.dumps(_summary(study), indent=1))
    else:
        _print_table(study)
        print(f"report: {path}")
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    import json

    from study.api import Study

    found = Study.open(options.study).status()
    if options.json:
        print(json.dumps(found, indent=1))
        return EXIT_DONE
    from study.screens import status_text

    print(status_text(found))
    return EXIT_DONE


def _plan(options: argparse.Namespace) -> int:
    import json

    from study.api import Study

    found = Study.from_spec(options.spec, overrides=options.overrides, root=options.root).plan()
    if options.json:
        print(json.dumps(found, indent=1))
        return EXIT_DONE
    from study.screens import plan_text

    print(plan_text(found))
    return EXIT_DONE


def _audit(options: argparse.Namespace) -> int:
    import json
    import shutil

    from study.api import Study
    from study.audit import audit_text

    found = Study.open(options.study).audit()
    width = shutil.get_terminal_size((100, 24)).columns
    print(json.dumps(found, indent=1) if options.json else audit_text(found, width=width))
    return EXIT_DONE if found["believed"] else EXIT_AUDIT_FAILED


def _compare(options: argparse.Namespace) -> int:
    from study.compare import as_json, compare, text

    found = compare(options.studies, out=options.out)
    print(as_json(found) if options.json else text(found))
    if found.page and not options.json:
        print(f"page: {found.page}")
    return EXIT_DONE


def _methods(options: argparse.Namespace) -> int:
    import json
    import shutil

    from study.reference import available, available_text

    found = available()
    width = shutil.get_terminal_size((100, 24)).columns
    print(json.dumps(found, indent=1) if options.json else available_text(found, width=width))
    return EXIT_DONE


def _ui(options: argparse.Namespace) -> int:
    from study.ui import serve

    serve(Path(options.root), host=options.host, port=options.port, open_browser=options.open)
    return EXIT_DONE


def _summary(study) -> dict:
    """The summary that the command has just written; gathering it again would read every reveal once more."""
    from trainables.files import read_json

    return read_json(study.folder / "report" / "summary.json")


def _print_table(study) -> None:
    from analysis.table import render_table

    print(render_table(_summary(study), selection=study.selection, spec=study.spec.to_table()))


def _exit_code(study) -> int:
    failed = study.failed_jobs or any(row["failed"] for row in study.status()["rows"])
    return EXIT_SOME_FAILED if failed else EXIT_DONE
