"""A gate in front of a server: lets through, or behaves as a network or a gateway in trouble does."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time

MODES = ("open", "closed", "hung", "slow", "failing")
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gate:
    """Listens on ``port`` of loopback and passes bytes to ``target``'s. ``mode`` may be changed at any time; connections
    that stand are cut then.

    closed: connections are dropped at once; hung: accepted and never answered; slow: each waits 1.5 s; failing: every other
    one is answered by a 503.
    """

    def __init__(self, target: int):
        self.target, self._mode, self._standing = target, "open", set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._numbers = itertools.count()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert mode in MODES, mode
        self._mode = mode
        for connection in list(self._standing):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.mode = "closed"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(connection, next(self._numbers)), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        mode = self._mode
        self._standing.add(connection)
        with connection, contextlib.suppress(OSError):
            if mode == "hung":
                while connection.recv(65536):
                    pass
            elif mode == "failing" and number % 2:
                connection.recv(65536)
                connection.sendall(REFUSAL)
            elif mode != "closed":
                time.sleep(1.5 if mode == "slow" else 0)
                self._pass(connection)
        self._standing.discard(connection)

    def _pass(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as other:
            self._standing.add(other)
            back = threading.Thread(target=_copy, args=(other, connection), daemon=True)
            back.start()
            _copy(connection, other)
            back.join()
            self._standing.discard(other)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
