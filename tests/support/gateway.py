"""The gateway as its users start it: a gw.toml, a process, a ready line, an exit status."""

from __future__ import annotations

import re
import signal
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import GENEROUS, wait_until

READY = re.compile(r"^bokeh-gateway ready: (?P<urls>.*) \((?P<workers>\d+)(?: of \d+)? workers?\)", re.MULTILINE)
KIB, MIB = 1024, 1024 * 1024


class GatewayProcess(Process):
    """`bokeh-gateway --config gw.toml` on the configuration `text`.

    `127.0.0.1:0` in the text becomes a free port; `drain = "1 s"` is added where the text has no [timeouts].
    Leaving the `with` block sends SIGTERM and wants exit status 0 and no traceback in the log.
    """

    def __init__(
        self,
        text: str,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        ready_within: float = GENEROUS,
    ) -> None:
        text = re.sub(r'"127\.0\.0\.1:0"', lambda _: f'"127.0.0.1:{free_port()}"', text)
        if "[timeouts]" not in text:
            text += '\n[timeouts]\ndrain = "1 s"\n'
        self.text = text
        self.config: dict[str, Any] = tomllib.loads(text)
        self.config_path = folder / "gw.toml"
        self.ready_within = ready_within
        self.ready_line = ""
        command = [sys.executable, "-m", "bokeh_gateway.cli", *arguments, "--config", str(self.config_path)]
        super().__init__("bokeh-gateway", command, folder, env)

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(self.text)
        super().launch()

    def wait_ready(self) -> None:
        def ready() -> re.Match[str] | None:
            found = READY.search(self.stderr)
            if not found:
                self.require_running()
            return found

        try:
            self.ready_line = wait_until(ready, "the ready line on standard error", self.ready_within)[0]
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.report()}") from None

    def stop(self, within: float = GENEROUS) -> None:
        """SIGTERM, exit status 0, no traceback in what it said."""
        self.require_running()
        self.signal(signal.SIGTERM)
        try:
            status = self.wait_exit(within)
            assert status == 0, f"exit status {status} after SIGTERM\n{self.report()}"
            self.assert_no_traceback()
        finally:
            self.kill()

    def kill_master(self, within: float = GENEROUS) -> int:
        """SIGKILL for the master; returns how many processes it was with all that it had started, and all are gone."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        self.signal(signal.SIGKILL)
        self.wait_exit()
        _, alive = psutil.wait_procs(family, timeout=within)
        assert alive == []
        return len(family)

    def assert_no_traceback(self) -> None:
        """Lines of supervised workers carry a prefix, so a line that begins with Traceback is the gateway's own."""
        assert not re.search(r"^Traceback ", self.stderr, re.MULTILINE), self.report(200)

    @property
    def port(self) -> int:
        """Of the first plain listener."""
        return int(self.config["gateway"]["listen"][0].rpartition(":")[2])

    @property
    def tls_port(self) -> int:
        return int(self.config["tls"]["listen"][0].rpartition(":")[2])

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def https(self, path: str = "/", host: str = "localhost") -> str:
        return f"https://{host}:{self.tls_port}{path}"

    def access_log(self) -> list[str]:
        return self.stdout.splitlines()

    def processes(self) -> list[psutil.Process]:
        """The gateway's own processes: the one that was started and its children that are no workers."""
        first = psutil.Process(self.pid)
        own = [first]
        for child in first.children(recursive=True):
            try:
                if "bokeh_gateway" in " ".join(child.cmdline()):
                    own.append(child)
            except psutil.NoSuchProcess:
                continue
        return own

    def memory(self) -> int:
        """Resident bytes of all its processes now."""
        return sum(process.memory_info().rss for process in self.processes())

    def forget_peak_memory(self) -> None:
        """The kernel's high-water mark of each process begins again from what is resident now."""
        for process in self.processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """Bytes: the sum of the high-water marks since `forget_peak_memory`."""
        return sum(high_water(process.pid) for process in self.processes())


def high_water(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, "Linux gives VmHWM"
    return int(found[1]) * KIB
