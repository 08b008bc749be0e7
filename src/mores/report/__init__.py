"""HTML report of a run, with tables and figures."""
