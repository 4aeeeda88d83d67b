"""Writes down who reads a file under a ``vault`` folder, the data set itself (a file or folder named as VAULT_SOURCE says), or
``study/vault.py``, as an import does: a JSON line for each to the file in VAULT_OPENS, and one for each process that listens.

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
    parts, module = {"vault", os.environ.get("VAULT_SOURCE", "vault")}, f"{os.sep}study{os.sep}"
    libraries = (os.path.dirname(os.__file__), "<frozen")
    command = " ".join(sys.orig_argv)
    process = "prepare" if "study.prepare" in command else "worker" if "default_worker.py" in command else "driver"

    def write(line: dict) -> None:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # raises the event again, for another path
        os.write(file, (json.dumps({"pid": os.getpid(), **line}) + "\n").encode())
        os.close(file)

    def asking() -> tuple[str, list[str]]:
        frame, role, names = sys._getframe(2), process, []
        while frame is not None:
            code = frame.f_code
            if not code.co_filename.startswith(libraries) and "site-packages" not in code.co_filename:
                name = f"{os.path.basename(code.co_filename).removesuffix('.py')}.{code.co_qualname}"
                names.append(name)
                if name.startswith("trainable.StudyTrainable."):
                    role = "trial"
                elif name == "jobs._run_and_store":
                    role = "job"
            frame = frame.f_back
        return role, names[:6]

    def heard(event: str, arguments: tuple) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike) or "w" in str(arguments[1]):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if parts.isdisjoint(path.split(os.sep)) and not (os.path.basename(path).startswith("vault.") and module in path):
            return
        role, names = asking()
        write({"role": role, "opened": path, "by": names})

    write({"role": process, "listens": True})
    sys.addaudithook(heard)


_install()
