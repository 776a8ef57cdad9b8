"""What may be written in gw.toml: one model a table, frozen; the reason is under each field.

Sizes are bytes, durations seconds; the file writes both with their unit.  Rules that join several tables are in
`config.cross`; what only the machine can tell is in `config.check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bokeh_gateway.config.address import Address as Address
from bokeh_gateway.config.auth import Auth, AuthNames, Words
from bokeh_gateway.config.fields import (
    AccessLog,
    CookiePattern,
    Count,
    CountOrNone,
    Duration,
    DurationOrFalse,
    DurationOrNone,
    DurationOrZero,
    EmbedOrigin,
    FilePath,
    FilePathOrNone,
    Flag,
    HeaderName,
    HeaderValue,
    ListenAddress,
    NameServer,
    OriginText,
    Prefix,
    ProbePath,
    Processes,
    Program,
    PublicUrl,
    Redirect,
    RouteHost,
    RoutePath,
    Secret,
    SecretOrNone,
    Size,
    SizeOrNone,
    TrustedNetwork,
    WorkerPlace,
    command_line,
)
from bokeh_gateway.config.server_name import ServerName
from bokeh_gateway.config.table import Table as Table
from bokeh_gateway.units import KIB, MIB


class Gateway(Table):
    """[gateway]: the gateway itself."""

    listen: tuple[ListenAddress, ...] = (Address("127.0.0.1", 8080),)
    """Where plain HTTP is accepted.  Loopback by default: being public is a decision.  With a [tls] table: none."""
    proxy_protocol: tuple[ListenAddress, ...] = ()
    """Those of `listen` where a load balancer sends the PROXY protocol's header (version 1 or 2) before the first byte;
    it must be one of `trusted_proxies`, and whoever sends no header is closed."""
    processes: Processes = 1
    """Gateway processes; "auto" is one a core.  One moves more than a dozen workers can make."""
    public_url: PublicUrl = None
    """The address that browsers use, when it cannot be taken from the request.  Without a trailing slash.  Its path, as
    in "https://hub.example.com/user/ada", is the prefix of the workers that the gateway runs, where they have none."""
    trusted_proxies: tuple[TrustedNetwork, ...] = ()
    """Whose X-Forwarded-* and PROXY headers are believed; "unix:" is who comes by a unix socket.  None by default:
    anyone can send these headers."""
    runtime_dir: FilePathOrNone = None
    """Folder for the sockets of supervised workers; None: a private temporary folder."""
    control: FilePathOrNone = None
    """The unix socket, mode 0600, where `bokeh-gateway ctl` reaches the gateway.  None: `control.sock` in
    `runtime_dir`; without that, a name made from the configuration file's path, in a folder of the user's among
    temporary files, so that `ctl --config gw.toml` finds it.  A restart alone changes it.  Set it where a service has
    temporary files of its own (PrivateTmp), or where whoever commands the gateway is another user or has another
    TMPDIR."""
    user: Annotated[str, Field(min_length=1)] | None = None
    """Becomes this user once the ports are bound, workers and gateway processes too; None: stays who it is; but as
    root, with workers of its own and an address that other machines reach, the gateway does not start: an app's mistake
    would be the machine's.  "root" says that it may.  The user must be able to read the certificates and to write the
    log."""
    resolver: tuple[NameServer, ...] = ()
    """Name servers that are asked for `dns+...` servers of pools.  None: those of the system, with its search list."""


class Certificate(Table):
    """[[tls.certificate]]: a further certificate, chosen by the name that the browser asks for (SNI)."""

    certfile: FilePath
    """PEM, the certificate first and then its chain."""
    keyfile: FilePathOrNone = None
    """PEM; None: the key is in `certfile`."""
    password: SecretOrNone = None
    """Of an encrypted key."""
    hosts: Annotated[tuple[RouteHost, ...], Field(min_length=1)] | None = None
    """The names that it serves; None: the names in the certificate."""


class Tls(Table):
    """[tls]: HTTPS."""

    listen: tuple[ListenAddress, ...] = ()
    """Where TLS is accepted.  A file must say it; the command line may fill it in."""
    proxy_protocol: tuple[ListenAddress, ...] = ()
    """Those of `listen` where the PROXY protocol's header comes in clear before the handshake; as in [gateway]."""
    certfile: FilePath
    """PEM, the certificate first and then its chain.  Also BOKEH_SSL_CERTFILE."""
    keyfile: FilePathOrNone = None
    """PEM; None: the key is in `certfile`.  Also BOKEH_SSL_KEYFILE."""
    password: SecretOrNone = None
    """Of an encrypted key.  Also BOKEH_SSL_PASSWORD."""
    redirect_http: Flag = True
    """The plain listeners answer 308 to https: nobody should use a dashboard's cookies in clear by a slip."""
    hsts: DurationOrFalse = None
    """Seconds for which browsers insist on https; None (`false`): not sent.  Off, as it cannot be taken back."""
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """RFC 8996 forbids what is older."""
    ciphers: str | None = None
    """OpenSSL's cipher list for TLS 1.2; None: the gateway's choice."""
    certificate: tuple[Certificate, ...] = ()
    """Further certificates."""


class ServerAddress(Table):
    """One worker that already runs: `"host:port"`, `"unix:/path"` or `{address = ..., weight = 2}`.

    Or all that a name stands for, as its records are renewed: `"dns+a://name:port"`, `"dns+srv://name"`.
    """

    address: WorkerPlace
    """Where it listens."""
    weight: Annotated[Count, Field(le=1000)] = 1
    """Its share beside the others: weight 2 gets twice the sessions of weight 1.  SRV records multiply it by theirs."""
    backup: Flag = False
    """Gets sessions only while no other server of the pool can.  SRV records of a lower priority make one too."""
    slow_start: DurationOrZero = 0.0
    """Time in which its share grows from a tenth to all when it comes up: caches fill, models load.  0: at once."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, (str, Address, ServerName)) else value

    def __str__(self) -> str:
        return str(self.address)


class Health(Table):
    """[pool.<name>.health]: when a worker of the pool is out of use."""

    interval: Duration = 5.0
    """Between two probes of a worker, give or take a tenth."""
    timeout: Duration = 10.0
    """For the answer to a probe; above `max_lag`, as a blocked worker is slow and not down."""
    rise: Count = 1
    """Good probes in a row that bring a worker back."""
    fall: Count = 3
    """Failed probes in a row that take a worker out of use; a refused connection does so at once."""
    max_lag: Duration = 2.0
    """A probe that waits longer shows a blocked loop: the worker gets no new sessions while another one can."""
    failures: Count = 10
    """Answers 5xx, and WebSockets that end before their first message, in a row that take a worker out of use until
    one request has tried it.  The last worker of a pool stays."""
    path: ProbePath = None
    """What a probe asks for; any answer below 500 is good.  None: what makes no session: metadata of apps the gateway
    runs, a static file of Bokeh workers that already run, a mere connection in a pool of kind "http"."""


class Pool(Table):
    """[pool.<name>]: the workers that serve the same apps.  Exactly one of `servers` and `serve`."""

    kind: Literal["bokeh", "http"] = "bokeh"
    """"http": no session logic, plain least connections, any WebSocket."""
    servers: tuple[ServerAddress, ...] = ()
    """Workers that already run."""
    serve: tuple[str, ...] = ()
    """What follows `bokeh serve`: apps that the gateway runs itself, relative to `cwd`."""
    command: Annotated[tuple[str, ...], command_line] = ("bokeh", "serve")
    """How a worker is started; or ["panel", "serve"].  A first item with a slash is a path."""
    workers: Annotated[Count, Field(le=64)] = 1
    """How many workers to run; an app that computes uses one core each."""
    start_timeout: Duration = 60.0
    """From a worker's start to its first answer; then it is ended and started again."""
    max_rss: SizeOrNone = None
    """Memory of a worker and its children; above it, a fresh worker takes its place, and it ends with its sessions."""
    max_age: DurationOrNone = None
    """Age at which the same happens; up to a tenth earlier, so that workers do not go as they came, together."""
    max_served: CountOrNone = None
    """Pages that made a session after which the same happens."""
    min_workers: CountOrNone = None
    """Workers while there is little to do; None: as `workers` says.  Needs `load_factor`."""
    max_workers: CountOrNone = None
    """Workers while there is much to do; None: as `workers` says.  Needs `load_factor`."""
    load_factor: CountOrNone = None
    """Sessions of each worker above which there are more workers, and below half of which fewer; None: it is always
    `workers`."""
    args: tuple[str, ...] = ()
    """Further arguments of `bokeh serve`."""
    env: dict[str, str] = {}
    """Environment variables of the workers, over the gateway's own."""
    cwd: FilePath = Field(default=Path("."), validate_default=True)
    """Folder in which the workers start; the file's own by default."""
    prefix: Prefix = ""
    """The workers' `--prefix`, such as "/bk": it goes before all their paths.  Without a trailing slash."""
    unused_session_lifetime: DurationOrNone = None
    """How long a worker keeps a session that nobody is connected to.  None: 60 s for supervised workers, who get it as
    `--unused-session-lifetime`: BokehJS tries 5 times within some 30 s (see `control.command`); else Bokeh's 15 s."""
    strip_cookies: tuple[CookiePattern, ...] = ()
    """Cookies that page requests reach the workers without, such as ["_ga*"]: a session token repeats a page's cookies,
    and proxies in front may refuse a long one.  None by default: any of them may be an app's."""
    python: Program = None
    """Interpreter whose installed packages give this pool's static files; None: as [static] says."""
    health: Health = Health()
    """When a worker is out of use."""
    hold: DurationOrZero = 15.0
    """Time that a request waits for a worker that starts, or that was up so short a time ago.  0: it does not."""
    max_sessions: CountOrNone = None
    """Sessions of one worker; None: no limit.  Further pages wait in a queue."""
    queue: Count = 100
    """Browsers that may wait for a session, first come first served; the others are told to come back."""
    queue_timeout: Duration = 300.0
    """For a browser in the queue; then it has to join it anew."""

    @property
    def fewest(self) -> int:
        """Workers that are never drained for want of work."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def most(self) -> int:
        """Workers beyond which none is started for the load."""
        return self.workers if self.max_workers is None else self.max_workers

    @property
    def at_start(self) -> int:
        """Workers that a start begins with."""
        return min(max(self.workers, self.fewest), self.most)


class Route(Table):
    """[[route]]: what answers for a host and a path.  The longest path wins.  One of pool, static and redirect."""

    host: RouteHost = None
    """Lower case, "*.example.com" allowed; None: any."""
    path: RoutePath = "/"
    """This path and all below it.  As written, without a trailing slash unless it is the root."""
    pool: str | None = None
    """Name of the pool that answers."""
    static: FilePathOrNone = None
    """Folder whose files answer."""
    redirect: Redirect = None
    """Absolute URL or path that is answered as Location."""
    strip_prefix: Flag = False
    """Take `path` away before the worker sees it; the worker learns it from X-Forwarded-Prefix."""
    headers: RouteHeaders | None = None
    """What is changed in the headers of its answers."""
    auth: AuthNames = None
    """Methods of [auth], one of which must let a request in; "none": no sign-in.  None: whatever is configured; a
    redirect is then for everybody."""
    users: Words = ()
    """Only these users; none: all who are signed in."""
    groups: Words = ()
    """Only members of one of these groups."""
    scopes: Words = ()
    """Only tokens with all of these scopes."""


class Origins(Table):
    """[origins]: which pages may open a WebSocket."""

    allow: tuple[OriginText, ...] = ()
    """Bokeh's host[:port] patterns; the gateway's own names need no listing."""
    required: Flag = False
    """Refuse WebSockets that name no origin.  Off: `pull_session` sends none."""


class Embed(Table):
    """[embed]: pages of other origins that hold apps of this gateway: `server_document`, `server_session`, frames."""

    origins: tuple[EmbedOrigin, ...] = ()
    """As in [origins] allow: they may open WebSockets, read `autoload.js` and static files across origins (CORS), and
    hold pages in frames.  Empty: CORS stays as the workers say, frames are not spoken of."""


Security = Literal["strict", "embed", "off"]


class RouteHeaders(Table):
    """[route.headers]: as [headers], for one route; its words go before those of [headers]."""

    security: Security | None = None
    """None: as [headers] says."""
    set: dict[HeaderName, HeaderValue] = {}
    """In place of what the worker sends under this name."""
    add: dict[HeaderName, HeaderValue] = {}
    """Beside what the worker sends under this name."""
    remove: tuple[HeaderName, ...] = ()
    """Never passed on."""


class Headers(Table):
    """[headers]: what is changed in the headers of answers."""

    security: Security = "off"
    """A set of headers for browsers, such as Content-Security-Policy: "strict" for dashboards of their own, "embed" for
    those in other pages.  Off: an app that loads from elsewhere would break without a word to its author."""
    set: dict[HeaderName, HeaderValue] = {}
    """In place of what the worker sends under this name."""
    add: dict[HeaderName, HeaderValue] = {}
    """Beside what the worker sends under this name."""
    remove: tuple[HeaderName, ...] = ()
    """Never passed on."""


class Sessions(Table):
    """[sessions]: who makes session ids, and how they are checked."""

    mode: Literal["unsigned", "signed", "external-signed"] = "unsigned"
    """As `bokeh serve --session-ids`."""
    secret_key: SecretOrNone = None
    """Signs session ids; the workers' BOKEH_SECRET_KEY, which is also its default in the signed modes."""
    previous_keys: tuple[Secret, ...] = ()
    """Accepted until they are taken out of here, after a change of `secret_key`.  Workers get what they signed signed
    again with `secret_key`, which they must have: a parent application may change its key after them."""
    token_expiration: Duration = 300.0
    """Lifetime of a token, whole seconds; supervised workers get it as `--session-token-expiration`."""
    token_leeway: DurationOrZero = 30.0
    """How far the clocks of gateway and workers may be apart."""
    reconnect: DurationOrFalse = 28800.0
    """A page that was cut off comes back to its session, while that lives, until this long after it was made; its token
    is made again.  Tokens alone would end that after `token_expiration`.  None (`false`): they do."""
    external_ids: Literal["spread", "hash"] | None = None
    """Which worker gets a session whose id another program made.  "spread": the least loaded one, remembered by all
    processes of this gateway, also through reloads and upgrades.  "hash": the one that the id's hash names, which
    gateways on several hosts agree about without a word, but sessions are even in the mean only.  None: "hash" for
    pools whose workers are found in the DNS, where several gateways are likely, else "spread"."""

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys that signatures may be made with, the present one first."""
        keys = (self.secret_key, *self.previous_keys) if self.secret_key else self.previous_keys
        return tuple(key.get_secret_value().encode() for key in keys)


class Static(Table):
    """[static]: BokehJS and the extensions' assets, without asking a worker."""

    bokeh: Flag = True
    """Serve them from the installed packages, at any <prefix>/static/."""
    python: Program = None
    """Interpreter whose packages are served, when the workers run in another environment; None: the gateway's."""
    cache_dir: FilePathOrNone = None
    """Where compressed copies are kept between runs; None: `bokeh-gateway` in $XDG_CACHE_HOME or ~/.cache.  Where that
    cannot be had, or is open to others, they are made anew at each start."""


class Limits(Table):
    """[limits]: what a client may use up."""

    header_size: Size = 64 * KIB
    """One header line; the whole head may have twice as much.  A worker's Tornado takes 64 KiB of head."""
    header_count: Count = 200
    """Header lines of a request; browsers send about 20."""
    request_line: Size = 32 * KIB
    """Method, target and version; a token in an argument may be long."""
    body_size: SizeOrNone = None
    """Of a request; None: the worker decides, bodies are streamed."""
    body_rate: SizeOrNone = 240
    """Bytes a second that a body comes at, once `[timeouts] body_grace` is over; a modem makes twenty times that.
    None: one byte in `[timeouts] body` is enough."""
    max_message: SizeOrNone = 20 * MIB
    """One WebSocket message from the browser; supervised workers get it as `--websocket-max-message-size`."""
    connections: Count = 20000
    """Open connections of clients in all; an idle WebSocket costs a few KB."""
    connections_per_client: CountOrNone = None
    """Open connections of one client: an IPv4 address, or an IPv6 network of /64.  None: no limit, an office may stand
    behind one address."""
    sessions_per_client_per_minute: CountOrNone = None
    """New sessions (pages) of one client, as above; each one runs the app's script."""
    token_warn_size: Size = 8 * KIB
    """A longer token is said in the log: proxies in front, nginx among them, often take no longer header line."""


class Timeouts(Table):
    """[timeouts]: how long the gateway waits."""

    header: Duration = 10.0
    """From the first byte of a request to the end of its head."""
    tls_handshake: Duration = 10.0
    """From the connection to the end of the handshake."""
    connect: Duration = 5.0
    """For a worker to accept a connection."""
    response: Duration = 300.0
    """From the request to the head of the worker's answer; an app's script may compute."""
    body: Duration = 60.0
    """Without a byte of a body that is still to come, however quick it was before."""
    body_grace: Duration = 10.0
    """From the head of a request until its body comes at `[limits] body_rate`."""
    send: Duration = 60.0
    """Without the client taking a byte of its answer."""
    keep_alive: Duration = 75.0
    """An idle connection between two requests."""
    websocket_idle: Duration = 120.0
    """No frame from the browser, pongs included; Bokeh pings every 37 s, so three pings went missing."""
    websocket_ping: Duration = 30.0
    """Silence after which the gateway pings, so that load balancers in front see traffic; below `websocket_idle`."""
    drain: Duration = 30.0
    """For sessions to end after TERM; then they are closed."""
    reload_linger: Duration = 8 * 3600.0
    """For sessions to end where a reload took their worker or process away: a working day in front of a dashboard."""


class Log(Table):
    """[log]: the access log and the gateway's own."""

    access: AccessLog = "-"
    """"-" is standard output; a path; or "off"."""
    format: Literal["combined", "json"] = "combined"
    """Of the access log; "combined" is what log analysers read."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Of the gateway's own log, on standard error."""


class Metrics(Table):
    """[metrics]: Prometheus."""

    listen: tuple[ListenAddress, ...] = ()
    """Where /metrics is answered; a listener of its own, as the figures are not for everyone.  Default none."""


class Config(Table):
    """The whole file."""

    gateway: Gateway = Gateway()
    tls: Tls | None = None
    pool: dict[str, Pool] = {}
    route: tuple[Route, ...] = ()
    auth: Auth = Auth()
    origins: Origins = Origins()
    embed: Embed = Embed()
    headers: Headers = Headers()
    sessions: Sessions = Sessions()
    static: Static = Static()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    log: Log = Log()
    metrics: Metrics = Metrics()
