"""The command line: `bokeh-gateway --config gw.toml`, and `check`, `serve`, `demo`, `ctl`.

Exit status: 0 asked to stop, 1 failed, 2 wrong usage or configuration (`check`: 1 when it found mistakes).
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from bokeh_gateway import __version__
from bokeh_gateway.app import GatewayApp
from bokeh_gateway.cli_ctl import ctl
from bokeh_gateway.config import check as checks
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.fields import is_http_url
from bokeh_gateway.config.load import load, parse
from bokeh_gateway.config.schema import Config
from bokeh_gateway.control.control_path import control_path
from bokeh_gateway.control.names import name_problems
from bokeh_gateway.control.selftest import HopFailed, check_url
from bokeh_gateway.control.upgrade import Held, State, inherited, tried
from bokeh_gateway.control.watch import for_development
from bokeh_gateway.errors import ConfigErrors, GatewayError
from bokeh_gateway.observe.logging_setup import configure
from bokeh_gateway.policy.password import BadHash, argon2_hash, scrypt_hash
from bokeh_gateway.trial import try_start

log = logging.getLogger("bokeh_gateway")

DEMO: Final = Path(__file__).parent / "demo_app"
ENOUGH_FILES: Final = 8192
"""Descriptors below which a warning is due: a WebSocket takes two."""

_config_option = click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file, gw.toml.",
)
_user_option = click.option(
    "--user", help="Become this user once the port is bound. As root, for other machines: needed; `root` to stay it."
)
_watch_option = click.option(
    "--watch",
    is_flag=True,
    help="For development: deploy a pool when files of its apps change. Open pages connect again, to the new code.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_config_option
@_watch_option
@click.version_option(__version__, prog_name="bokeh-gateway")
@click.pass_context
def main(context: click.Context, config_path: Path | None, watch: bool) -> None:
    """The reverse proxy and load balancer that knows Bokeh.

    `bokeh-gateway --config gw.toml` runs it.
    """
    if context.invoked_subcommand is not None:
        context.obj = config_path
        return
    if config_path is None:
        raise click.UsageError("--config is missing; `bokeh-gateway serve app.py` needs no file.", context)
    path = config_path
    sys.exit(_run(lambda: load(path, os.environ), path, watch=watch))


main.add_command(ctl)


@main.command()
@_config_option
@click.option("--ca-certs", type=click.Path(exists=True, dir_okay=False), help="For a URL: authorities to trust, PEM.")
@click.option(
    "--ports/--no-ports",
    default=None,
    help="Whether ports have to be free.  Without: unless a gateway runs with this file, which holds them itself.",
)
@click.argument("url", required=False)
@click.pass_context
def check(
    context: click.Context, config_path: Path | None, ca_certs: str | None, ports: bool | None, url: str | None
) -> None:
    """Report every mistake in a configuration and in what it names; exit status 0 or 1.

    With the URL of a page, open it as a browser does and say which hop fails: page, token, WebSocket or document.
    """
    if url is not None:
        _check_page(url, ca_certs)
        return
    path = config_path or context.obj
    if path is None:
        raise click.UsageError("--config is missing.", context)
    try:
        config = load(path, os.environ)
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        sys.exit(1)
    for warning in [*checks.warnings(config, path), *asyncio.run(name_problems(config))]:
        click.echo(f"{path}: warning: {warning}", err=True)
    if ports is None and _runs(config, path):
        click.echo(f"{path}: a gateway runs with this file, so that no port was looked at", err=True)
        ports = False
    found = checks.check_environment(config, bind=ports is not False)
    for error in found:
        click.echo(f"{path}: {error}", err=True)
    if found:
        sys.exit(1)
    click.echo(f"{path}: good")


@main.command()
@click.argument("apps", nargs=-1, required=True)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="HOST:PORT to listen on.")
@_user_option
@click.option("--panel", is_flag=True, help="Run the workers with `panel serve`.")
@click.option("--allow-origin", "origins", multiple=True, help="A page that may embed the apps, as HOST[:PORT].")
@_watch_option
def serve(
    apps: tuple[str, ...],
    workers: int,
    listen: str,
    user: str | None,
    panel: bool,
    origins: tuple[str, ...],
    watch: bool,
) -> None:
    """Run Bokeh apps behind the gateway, without a configuration file."""
    missing = [app for app in apps if not Path(app).exists()]
    if missing:
        raise click.UsageError(f"There is no app {', '.join(missing)}.")
    sys.exit(_run(lambda: _serve_config(apps, workers, listen, user=user, panel=panel, origins=origins), watch=watch))


@main.command()
@click.option("--workers", type=click.IntRange(1, 64), default=3, show_default=True, help="Worker processes.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="HOST:PORT to listen on.")
@_user_option
def demo(workers: int, listen: str, user: str | None) -> None:
    """Run the app that ships in the package."""
    sys.exit(_run(lambda: _serve_config((str(DEMO),), workers, listen, user=user)))


@main.command("hash-password")
@click.option("--algorithm", type=click.Choice(["scrypt", "argon2"]), default="scrypt", show_default=True)
def hash_password(algorithm: str) -> None:
    """Print the hash of a password, for [auth.basic] users.

    Asks for the password twice on a terminal, else reads one line from standard input.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("The password is empty.")
    try:
        hashed = argon2_hash(password) if algorithm == "argon2" else scrypt_hash(password, os.urandom(16))
    except BadHash as bad:
        raise click.UsageError(f"Expected {bad}.") from None
    click.echo(hashed)


def _runs(config: Config, path: Path) -> bool:
    """Whether a gateway answers where `ctl` would look for it."""
    control = control_path(config.gateway, path)
    return control is not None and checks.connect_problem(Address(unix=str(control))) is None


def _check_page(url: str, ca_certs: str | None) -> None:
    if not is_http_url(url):
        raise click.UsageError("Expected the http:// or https:// URL of a page.")
    try:
        for line in asyncio.run(check_url(url, ca_certs=ca_certs)):
            click.echo(line)
    except HopFailed as failed:
        click.echo(f"{url}: {failed}", err=True)
        sys.exit(1)


def _serve_config(
    apps: tuple[str, ...],
    workers: int,
    listen: str,
    *,
    user: str | None = None,
    panel: bool = False,
    origins: tuple[str, ...] = (),
) -> Config:
    pool: dict[str, Any] = {"serve": list(apps), "workers": workers}
    if panel:
        pool["command"] = ["panel", "serve"]
    data: dict[str, Any] = {
        "gateway": {"listen": [listen]},
        "pool": {"apps": pool},
        "origins": {"allow": list(origins)},
    }
    if os.environ.get("BOKEH_SSL_CERTFILE"):
        # As `bokeh serve` does: with a certificate in the environment the address speaks TLS.
        data["gateway"] = {"listen": []}
        data["tls"] = {"listen": [listen]}
    if user is not None:
        data["gateway"]["user"] = user
    return parse(data, Path.cwd(), os.environ, "bokeh-gateway serve")


def _run(read_file: Callable[[], Config], config_file: Path | None = None, *, watch: bool = False) -> int:
    """Runs the gateway; the exit status."""

    def read() -> Config:
        return for_development(read_file()) if watch else read_file()

    try:
        config = read()
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        return 2
    held = tried(os.environ)
    if held is not None:
        return _try(config, config_file, held)
    handler = configure(config.log.level)
    try:
        left = inherited(os.environ)
        _raise_file_limit()
        for warning in checks.warnings(config):
            log.warning("%s", warning)
        return uvloop.run(_main(config, read, left, config_file, watch))
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        return 2
    finally:
        handler.flush()
        handler.writer.flush()
        handler.writer.close()


def _try(config: Config, config_file: Path | None, held: Held) -> int:
    """Whether the gateway would run, as far as can be seen while another one does; 0 or 2."""
    try:
        uvloop.run(try_start(config, config_file, held))
    except GatewayError as errors:
        click.echo(str(errors), err=True)
        return 2
    return 0


async def _main(
    config: Config, read: Callable[[], Config], left: State | None, config_file: Path | None, watch: bool
) -> int:
    loop = asyncio.get_running_loop()
    app = GatewayApp(config, loop, reload_config=read, inherited=left, config_file=config_file, watch=watch)
    return await app.run()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < ENOUGH_FILES:
        log.warning("only %d open files are allowed (ulimit -n): every WebSocket takes two of them", hard)


if __name__ == "__main__":
    main()
