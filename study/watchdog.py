"""Ends a local Ray cluster whose driver was killed. Run as a script by the driver, before it starts Ray.

Says "ready", and waits on standard input. "done" means that the driver has shut its cluster down itself; an end of file without it means
that the driver died, and then its descendants, and what bears the name of its Ray session, are ended; nothing else.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import NamedTuple

LOOK_SECONDS = 1.0  # between looks at who is there
SWEEP_SECONDS = 0.5
POLITE_SWEEPS, SWEEPS = 4, 10  # a worker that was just being started appears after its raylet has gone


class Process(NamedTuple):
    """``started`` tells a process from a later one of the same number."""

    parent: int
    session: int
    started: str


def processes() -> dict[int, Process]:
    """Every process that is not a zombie."""
    if not os.path.isdir("/proc/self"):
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,sess=,lstart="], capture_output=True, text=True, check=False
        ).stdout
        rows = (line.split(maxsplit=3) for line in listed.splitlines())
        return {int(pid): Process(int(parent), int(session), started) for pid, parent, session, started in rows}
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{entry}/stat") as file:
            # The name, in parentheses, may hold blanks and parentheses of its own.
            fields = file.read().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(entry)] = Process(int(fields[1]), int(fields[3]), fields[19])
    return found


def family(roots: set[int], known: dict[int, Process] | None = None) -> dict[int, str]:
    """``roots`` that live, and all their descendants, with their start times."""
    known = processes() if known is None else known
    members = roots & known.keys()
    while more := {pid for pid, process in known.items() if process.parent in members} - members:
        members |= more
    return {pid: known[pid].started for pid in members}


def left_behind(driver: int, session: int, known: dict[int, Process]) -> dict[int, str]:
    """What a dead driver's cluster leaves: processes that bear its session's name, which ends in the driver's number,
    and agents that have named themselves anew and have no parent left in the driver's terminal session.

    While an agent is of use it is the child of a raylet, whichever driver's it is; without one it only waits.
    """
    name = re.compile(rb"session_[-_0-9]+_%d(?![0-9])" % driver)
    found = {}
    for pid, process in known.items():
        if process.session == session:
            command = command_of(pid)
            alone = process.parent not in known or known[process.parent].session != session
            if name.search(command) or (alone and command.startswith(b"ray::")):
                found[pid] = process.started
    return found


def command_of(pid: int) -> bytes:
    """A process's command line, empty where there is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def end(driver: int, session: int, members: dict[int, str]) -> None:
    """Asks politely, then does not ask."""
    for sweep in range(SWEEPS):
        known = processes()
        alive = {pid for pid, started in members.items() if pid in known and known[pid].started == started}
        members = members | family(alive, known) | left_behind(driver, session, known)
        for pid, started in members.items():
            if pid in known and known[pid].started == started:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM if sweep < POLITE_SWEEPS else signal.SIGKILL)
        time.sleep(SWEEP_SECONDS)


def main() -> None:
    """Waits, then ends what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver, session = map(int, sys.argv[1:])
    strangers = family({driver}).keys()  # the driver itself, and what it had started before it started Ray
    print("ready", flush=True)
    members: dict[int, str] = {}
    while True:
        # Remembered while the driver lives, since a dead one's children lose their parent, by which one knows them.
        members |= {pid: started for pid, started in family({driver}).items() if pid not in strangers}
        if select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
            break
    if sys.stdin.readline().strip() != "done":
        end(driver, session, members)


if __name__ == "__main__":
    main()
