"""Ends a local Ray cluster whose driver was killed. Run as a script: ``python watchdog.py PID [PID …]``.

Waits on standard input. "done" means that the driver has shut its cluster down itself; an end of file without it means
that the driver died, and then exactly the given processes and their descendants are ended. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 3.0
LOOK_SECONDS = 2.0
FIRST_LOOKS, FIRST_LOOK_SECONDS = 40, 0.2  # a raylet starts its agents in its first seconds


def processes() -> dict[int, tuple[int, str]]:
    """Parent and start time of every process; the start time tells a process from a later one of the same number."""
    if not os.path.isdir("/proc/self"):
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,lstart="], capture_output=True, text=True, check=False)
        rows = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
        return {int(pid): (int(parent), started) for pid, parent, started in rows}
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                # The name, in parentheses, may hold blanks and parentheses of its own.
                fields = file.read().rpartition(")")[2].split()
            found[int(entry)] = (int(fields[1]), fields[19])
        except (OSError, IndexError, ValueError):
            continue
    return found


def family(roots: set[int]) -> dict[int, str]:
    """``roots`` that live, and all their descendants, with their start times."""
    known = processes()
    members = roots & known.keys()
    while more := {pid for pid, (parent, _) in known.items() if parent in members} - members:
        members |= more
    return {pid: known[pid][1] for pid in members}


def end(members: dict[int, str]) -> None:
    """Asks politely, then does not ask."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        known = processes()
        for pid, started in members.items():
            if known.get(pid, (0, ""))[1] == started:
                with contextlib.suppress(OSError):
                    os.kill(pid, sent)
        if sent == signal.SIGTERM:
            time.sleep(GRACE_SECONDS)


def main() -> None:
    """Waits, then ends what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    roots = {int(word) for word in sys.argv[1:]}
    # Seen while they live, since Ray's agents lose their parent, by which one knows them, when the raylet dies first.
    members = family(roots)
    looks = 0
    while not select.select([sys.stdin], [], [], FIRST_LOOK_SECONDS if looks < FIRST_LOOKS else LOOK_SECONDS)[0]:
        members |= family(roots)
        looks += 1
    if sys.stdin.readline().strip() != "done":
        end(family(roots) | members)


if __name__ == "__main__":
    main()
