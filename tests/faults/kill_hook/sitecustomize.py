"""Kills the process that renames or links a file to a name like that in SOAK_KILL ("before:result.json"), once; see soak_kills.py."""

import fnmatch
import os
import signal


def _install() -> None:
    when, _, name = os.environ.get("SOAK_KILL", "").partition(":")
    mark = os.environ.get("SOAK_KILLED", "")
    if not name or not mark:
        return
    rename, link = os.replace, os.link

    def die() -> None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # whoever comes first, and nobody after it
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def dangerous(commit):
        def function(source, target, **options):
            hit = fnmatch.fnmatch(os.path.basename(os.fspath(target)), name)
            if hit and when == "before":
                die()
            commit(source, target, **options)
            if hit and when == "after":
                die()

        return function

    os.replace, os.link = dangerous(rename), dangerous(link)


_install()
