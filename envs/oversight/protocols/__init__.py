"""Control protocols: rules that decide on each task of an untrusted policy."""
