"""The report of a run: one HTML file with tables and figures."""
