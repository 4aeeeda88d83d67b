"""Writes down who opens a file under a ``vault`` folder, or imports the module that reads it: a JSON line for each to the
file in VAULT_OPENS, and one for each process that listens.

On PYTHONPATH of a launch: Python imports it in the driver, in prepare, and in Ray's workers, which inherit the variable.
"role" is "prepare", "driver", or of a worker "trial", "job" or, where neither asks, "worker"; "by" the nearest functions that
are no library's. Hears what Python opens, which is every way to read an array; not what stat or a shell says of a file.
"""

import json
import os
import sys


def _install() -> None:
    log = os.environ.get("VAULT_OPENS", "")
    if not log:
        return
    mark, libraries = f"{os.sep}vault{os.sep}", (os.path.dirname(os.__file__), "<frozen")
    command = " ".join(sys.orig_argv)
    process = "prepare" if "study.prepare" in command else "worker" if "default_worker.py" in command else "driver"

    def write(line: dict) -> None:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # raises the event again, of a path without the mark
        os.write(file, (json.dumps({"pid": os.getpid(), **line}) + "\n").encode())
        os.close(file)

    def asking() -> tuple[str, list[str]]:
        frame, role, names = sys._getframe(3), process, []
        while frame is not None:
            code = frame.f_code
            if not code.co_filename.startswith(libraries) and "site-packages" not in code.co_filename:
                name = f"{os.path.basename(code.co_filename).removesuffix('.py')}.{code.co_qualname}"
                names.append(name)
                role = {"trainable.StudyTrainable": "trial", "jobs._run_and_store": "job"}.get(
                    name if name.startswith("jobs.") else name.rpartition(".")[0], role)
            frame = frame.f_back
        return role, names[:4]

    def heard(event: str, arguments: tuple) -> None:
        if event == "import" and arguments[0] == "study.vault":
            what = "import study.vault"
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            what = os.path.abspath(os.fsdecode(arguments[0]))
            if mark not in what:
                return
        else:
            return
        role, names = asking()
        write({"role": role, "opened": what, "by": names})

    write({"role": process, "listens": True})
    sys.addaudithook(heard)


_install()
