"""Behind https a worker without --use-xheaders is named at the start, and works all the same."""

from __future__ import annotations

from pathlib import Path

from tests.support.bokeh_client import view_page
from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, servers


def test_a_worker_that_takes_https_for_http_is_named(tmp_path: Path, certificate: Certificate) -> None:
    """TL-01, TL-03: the plain ones alone, by TCP and unix socket; the page opens wss."""
    env = {"TEST_RUN_RECORD": str(tmp_path / "runs")}
    flags = {"plain": [], "knowing": ["--use-xheaders"]}
    workers = [BokehWorker(tmp_path, name=name, env=env, arguments=arguments) for name, arguments in flags.items()]
    workers.append(BokehWorker(tmp_path, name="plain-unix", env=env, unix=tmp_path / "w.sock"))
    try:
        for worker in workers:
            worker.launch()
        for worker in workers:
            worker.wait_ready()
        text = f"""
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
[pool.apps]
servers = {servers(workers)}
"""
        with GatewayProcess(text, tmp_path) as gateway:
            for worker in (workers[0], workers[2]):
                line = gateway.wait_for_output(f"worker {worker.address}: was started without --use-xheaders")
                assert "[pool.apps] servers" in line
            assert gateway.stderr.count("without --use-xheaders") == 2
            url = gateway.https("/recorder")
            with view_page(url, verify=str(certificate.authority), tls=certificate.client) as view:
                assert view.socket.pull_document()["title"] == "Recorder"
    finally:
        for worker in workers:
            worker.kill()
