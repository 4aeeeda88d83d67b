"""``oraclegap completion SHELL``: what the shell offers after Tab, generated from the parsers, so that it is never behind them.

The scripts are static: completing a word starts no Python. ``SPEC`` offers ready specs and TOML files, ``STUDY`` folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")
#: Bash's script runs in zsh once its emulation is there; compinit takes its time, so it is run only where nothing else did.
ZSH = "(( $+functions[compdef] )) || { autoload -U compinit && compinit; }\nautoload -U +X bashcompinit && bashcompinit\n"
#: metavar of an argument → what completes it
PLACES = {"SPEC": "spec", "STUDY": "folder", "EXPORT": "folder", "FOLDER": "folder", "IMAGES": "file", "FILE": "file"}


@dataclass(frozen=True)
class Command:
    """A command: its help, {option: (help, kind)} and the kind of its arguments; a kind is "", "any", "folder", "file", "spec" or
    words with blanks between."""

    name: str
    help: str
    options: dict[str, tuple[str, str]]
    argument: str


def commands(parser: argparse.ArgumentParser) -> list[Command]:
    """Every command of the parser."""
    (tree,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in tree._choices_actions}
    found = []
    for name, sub in tree.choices.items():
        options, argument = {}, ""
        for action in sub._actions:
            for option in action.option_strings:
                options[option] = (action.help or "", "" if action.nargs == 0 else _kind(action))
            argument = argument or ("" if action.option_strings else _kind(action))
        found.append(Command(name, helps[name], options, argument))
    return found


def _kind(action: argparse.Action) -> str:
    if action.choices:
        return " ".join(map(str, action.choices))
    return "folder" if action.dest == "root" else PLACES.get(str(action.metavar), "any")


def script(shell: str, parser: argparse.ArgumentParser, specs: list[str]) -> str:
    """The script for one of ``SHELLS``; ``specs`` are the ready ones' names."""
    found = commands(parser)
    if shell == "fish":
        return "\n".join(_fish(found, specs)) + "\n"
    text = _bash(found, specs)
    return f"{ZSH}{text}" if shell == "zsh" else text


def _bash(found: list[Command], specs: list[str]) -> str:
    """Bash's, which zsh runs as well by its bashcompinit."""
    cases, values = [], []
    for command in found:
        cases.append(f"    {command.name}) options='{' '.join(command.options)}' argument='{command.argument}' ;;")
        for option, (_, kind) in command.options.items():
            if kind:
                values.append(f"    {command.name}:{option}) kind='{kind}' ;;")
    names = " ".join(command.name for command in found)
    return f"""_oraclegap() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options='' argument='' kind='' IFS=$' \\t\\n'
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{names} --help' -- "$word")); return
  fi
  case ${{COMP_WORDS[1]}} in
{chr(10).join(cases)}
  esac
  case ${{COMP_WORDS[1]}}:$before in
{chr(10).join(values)}
  esac
  if [ -z "$kind" ]; then
    case $word in
      -*) COMPREPLY=($(compgen -W "$options" -- "$word")); return ;;
    esac
    kind=$argument
  fi
  case $kind in
    ''|any) return ;;
    folder) compopt -o filenames 2>/dev/null; IFS=$'\\n'; COMPREPLY=($(compgen -d -- "$word")) ;;
    file) compopt -o filenames 2>/dev/null; IFS=$'\\n'; COMPREPLY=($(compgen -f -- "$word")) ;;
    spec) compopt -o filenames 2>/dev/null
      COMPREPLY=($(compgen -W '{' '.join(specs)}' -- "$word")); IFS=$'\\n'
      COMPREPLY+=($(compgen -d -- "$word") $(compgen -f -X '!*.toml' -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$kind" -- "$word")) ;;
  esac
}}
complete -F _oraclegap oraclegap
"""


def _fish(found: list[Command], specs: list[str]) -> Iterator[str]:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    yield "complete -c oraclegap -f"
    for command in found:
        yield f"complete -c oraclegap -n __fish_use_subcommand -a {command.name} -d {quoted(command.help)}"
        where = f"complete -c oraclegap -n '__fish_seen_subcommand_from {command.name}'"
        yield from _fish_kind(where, command.argument, specs, flag="")
        for option, (text, kind) in command.options.items():
            name = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            yield f"{where} {name} -d {quoted(text)}"
            yield from _fish_kind(f"{where} {name}", kind, specs, flag=" -x")


def _fish_kind(where: str, kind: str, specs: list[str], *, flag: str) -> Iterator[str]:
    if kind == "any":
        yield from [f"{where} -x"] if flag else []
    elif kind == "folder":
        yield f"{where}{flag} -a '(__fish_complete_directories)'"
    elif kind == "file":
        yield f"{where} -F" + (" -r" if flag else "")
    elif kind == "spec":
        yield f"{where}{flag} -a '{' '.join(specs)} (__fish_complete_suffix .toml)'"
    elif kind:
        yield f"{where}{flag} -a '{kind}'"
