"""What a shell completes, asked of a real bash; and that the scripts hold every command and option there is."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from study.cli import build_parser
from study.completion import commands, script
from study.spec_file import ready_specs

#: Presses Tab: bash itself splits the line and calls the function that `complete` registered.
PRESS = r"""
source "$1"; line=$2
COMP_LINE=$line; COMP_POINT=${#line}; read -ra COMP_WORDS <<< "$line"
[[ $line == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p oraclegap); function=${function#*-F }; function=${function%% *}
$function oraclegap "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("shell")
    (made / "completion.bash").write_text(script("bash", build_parser(), ready_specs()))
    (made / "mine.toml").touch(), (made / "notes.txt").touch(), (made / "my study").mkdir()
    return made


@pytest.mark.parametrize(("line", "offered"), [
    ("oraclegap la", {"launch"}), ("oraclegap c", {"compare", "clean", "completion"}),
    ("oraclegap launch cifar10-", {"cifar10-cpu"}), ("oraclegap launch mi", {"mine.toml"}), ("oraclegap launch my", {"my study"}),
    ("oraclegap launch digits --stop", {"--stop-after"}), ("oraclegap launch digits --stop-after ", {"search", "freeze"}),
    ("oraclegap status my", {"my study"}), ("oraclegap completion ", {"bash", "zsh", "fish"}),
    ("oraclegap detect --threshold ", {""}), ("oraclegap no-such-command ", {""}), ("oraclegap status no", {""}),
])
def test_bash_offers(folder, line, offered):
    done = subprocess.run(["bash", "-c", PRESS, "bash", folder / "completion.bash", line], cwd=folder, capture_output=True, text=True,
                          check=True)
    assert set(done.stdout.splitlines()) == offered and done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script_and_the_shell_takes_it(shell, tmp_path):
    text = script(shell, build_parser(), ready_specs())
    found = commands(build_parser())
    assert {"launch", "clean", "list", "completion"} <= {command.name for command in found}
    for command in found:
        assert command.name in text
        for option in command.options:
            assert (f"-l {option[2:]} " if shell == "fish" and option.startswith("--") else option[1:]) in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)
