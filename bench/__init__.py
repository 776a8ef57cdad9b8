"""What the gateway costs beside its peers.  One script answers one question: `python -m bench.NAME --help`."""
