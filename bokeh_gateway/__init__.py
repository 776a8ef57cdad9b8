"""bokeh-gateway: the reverse proxy and load balancer that knows Bokeh."""

__version__ = "0.1.0"
