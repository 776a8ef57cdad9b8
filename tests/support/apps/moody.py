"""`bokeh serve`, or what its mood makes of it: `python moody.py MOOD_FILE <arguments of bokeh serve>`.

The file says `dies`, `hangs`, or `half`: listens and answers probes, but a page with a half of it, and dies then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n<html>" + b"x" * 5000
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def half(path: str) -> None:
    """Answers probes; of anything else sends a half, and dies by SIGKILL."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                if b"/metadata" in connection.recv(65536).split(b"\r\n")[0]:
                    connection.sendall(GOOD)
                else:
                    connection.sendall(HALF)
                    time.sleep(0.5)  # until it is on its way to the browser
                    os.kill(os.getpid(), signal.SIGKILL)


def main(mood: str, arguments: list[str]) -> None:
    if mood == "dies":
        sys.exit("in the mood to die")
    elif mood == "hangs":
        time.sleep(3600)
    elif mood == "half":
        half(arguments[arguments.index("--unix-socket") + 1])
    else:
        os.execv(sys.executable, [sys.executable, "-m", "bokeh", "serve", *arguments])


if __name__ == "__main__":
    file = Path(sys.argv[1])
    main(file.read_text().strip() if file.exists() else "", sys.argv[2:])
