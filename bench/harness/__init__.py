"""Starting, loading and metering proxies; nothing here knows which proxy it drives."""
