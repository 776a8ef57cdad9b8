"""The tests of bokeh-gateway; a package so that `tests.support` can be imported from every folder."""
