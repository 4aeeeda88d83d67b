"""How a command may end, and the errors that say so.

0 done · 1 audit failed · 2 the user's input · 3 the environment · 4 finished but some trials failed · 130 interrupted.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_AUDIT_FAILED = 1
EXIT_USER = 2
EXIT_ENVIRONMENT = 3
EXIT_SOME_FAILED = 4
EXIT_INTERRUPTED = 130


class OracleGapError(Exception):
    """A condition that is told in one line (where, what is wrong, what to do) and ends with ``exit_code``."""

    exit_code = 1


class UserError(OracleGapError):
    """The user's input is wrong: a spec, a path, a data set, an argument."""

    exit_code = EXIT_USER


class EnvironmentProblem(OracleGapError):
    """The machine cannot do it: a server is down, the disk is full, there is no such GPU."""

    exit_code = EXIT_ENVIRONMENT


class Interrupted(OracleGapError):
    """Stopped by the user; everything is saved and ``launch`` continues."""

    exit_code = EXIT_INTERRUPTED


def one_line(text: object, limit: int = 1000) -> str:
    """``text`` as one line that a terminal can show: no breaks, no control characters, the middle of a long one left out."""
    line = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in " ".join(str(text).split())
    )
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-(limit // 2) + 3 :]}"


def nearest(name: str, known) -> str:
    """`` (did you mean 'x'?)`` when one of ``known`` is close to ``name``, else an empty string."""
    import difflib

    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
