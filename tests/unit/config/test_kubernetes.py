"""conf/kubernetes: the manifests agree with each other and with the gw.toml inside them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bokeh_gateway.config.load import parse
from bokeh_gateway.config.schema import Config
from bokeh_gateway.config.server_name import ServerName, parse_place
from bokeh_gateway.endpoint.metrics_page import metrics_delegate
from bokeh_gateway.observe.metrics import Metrics

FOLDER = Path(__file__).parents[3] / "conf" / "kubernetes"
PROBES = ("livenessProbe", "readinessProbe")
ENDING = 10
"""Seconds that the gateway, or a worker, has to end after it drained."""


def manifests() -> dict[tuple[str, str], Any]:
    """By kind and name."""
    listed = [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
    found = {(one["kind"], one["metadata"]["name"]): one for one in listed}
    assert len(found) == len(listed), "each name once"
    return found


FOUND = manifests()
TEXT = FOUND["ConfigMap", "bokeh-gateway"]["data"]["gw.toml"]
DEPLOYMENTS = ["bokeh-gateway", "bokeh-workers"]


def config() -> Config:
    return parse(tomllib.loads(TEXT), FOLDER, {"BOKEH_SECRET_KEY": "x" * 44})


def pod(name: str) -> Any:
    return FOUND["Deployment", name]["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (one,) = pod(name)["containers"]
    return one


def port(name: str, wanted: str | int) -> int:
    """A port by its name in the container, as Services and probes give it."""
    return (
        wanted if isinstance(wanted, int) else {p["name"]: p["containerPort"] for p in container(name)["ports"]}[wanted]
    )


def pre_stop(name: str) -> int:
    program, seconds = container(name)["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return int(seconds)


def test_the_gateway_listens_where_its_service_and_probes_ask() -> None:
    (http,) = FOUND["Service", "bokeh-gateway"]["spec"]["ports"]
    assert [address.port for address in config().gateway.listen] == [port("bokeh-gateway", http["targetPort"])]
    (metrics,) = config().metrics.listen
    assert metrics.wildcard, "the kubelet asks from outside the pod"
    probes = [container("bokeh-gateway")[kind]["httpGet"] for kind in PROBES]
    assert [probe["path"] for probe in probes] == ["/livez", "/readyz"]
    assert [port("bokeh-gateway", probe["port"]) for probe in probes] == [metrics.port] * 2


def test_the_probes_ask_for_what_is_served() -> None:
    async def figures() -> Metrics:
        return Metrics()

    application: Any = metrics_delegate(figures, dict, lambda: False)
    served = {rule.matcher.regex.pattern.rstrip("$") for rule in application.wildcard_router.rules}
    assert served >= {
        container("bokeh-gateway")[kind]["httpGet"]["path"] for kind in ("livenessProbe", "readinessProbe")
    }


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_services_select_their_pods(name: str) -> None:
    labels = FOUND["Deployment", name]["spec"]["template"]["metadata"]["labels"]
    assert FOUND["Service", name]["spec"]["selector"] == labels
    assert FOUND["Deployment", name]["spec"]["selector"]["matchLabels"] == labels


def test_the_pool_names_the_headless_service() -> None:
    (server,) = config().pool["apps"].servers
    service = FOUND["Service", "bokeh-workers"]["spec"]
    (listed,) = service["ports"]
    assert service["clusterIP"] == "None"
    assert server.address == ServerName("a", "bokeh-workers", port("bokeh-workers", listed["targetPort"]))
    assert port("bokeh-workers", listed["targetPort"]) == listed["port"], "records of pods know no other port"
    assert f"--port={listed['port']}" in container("bokeh-workers")["args"]
    comment = TEXT.partition("# servers = [")[2].partition("]")[0].strip('"')
    assert parse_place(comment) == ServerName("srv", f"_{listed['name']}._tcp.bokeh-workers")


def test_both_sides_have_one_secret_and_one_lifetime() -> None:
    names = [{one["name"]: one.get("valueFrom") for one in container(name)["env"]} for name in DEPLOYMENTS]
    assert names[0]["BOKEH_SECRET_KEY"] == names[1]["BOKEH_SECRET_KEY"] is not None
    lifetime = config().pool["apps"].unused_session_lifetime
    assert lifetime is not None
    assert f"--unused-session-lifetime={lifetime * 1000:.0f}" in container("bokeh-workers")["args"]
    assert f"--session-ids={config().sessions.mode}" in container("bokeh-workers")["args"]


def test_there_is_time_to_drain() -> None:
    grace = {name: pod(name)["terminationGracePeriodSeconds"] for name in DEPLOYMENTS}
    assert grace["bokeh-gateway"] >= pre_stop("bokeh-gateway") + config().timeouts.drain + ENDING
    assert grace["bokeh-workers"] >= pre_stop("bokeh-workers") + ENDING
    assert pre_stop("bokeh-workers") > 60, "a record may be believed for a minute"


def test_a_worker_is_ready_when_its_app_answers() -> None:
    app = next(argument for argument in container("bokeh-workers")["args"] if not argument.startswith("-"))
    probe = container("bokeh-workers")["readinessProbe"]["httpGet"]
    assert (probe["path"], port("bokeh-workers", probe["port"])) == (f"/{Path(app).name}/metadata", 5006)


def test_files_are_where_the_command_looks() -> None:
    one = container("bokeh-gateway")
    mounted = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod("bokeh-gateway")["volumes"]}
    assert mounted.keys() == volumes.keys()
    assert one["args"] == ["--config", f"{mounted['config']}/gw.toml"]
    assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in FOUND
