"""Bokeh and Panel applications that the tests serve."""
