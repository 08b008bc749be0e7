"""Opening of a report in the browser: `--open`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def open_report(report: Path) -> None:
    """Show a report in the browser. Where there is none, a line on standard error says so."""
    # Without a display, Python would start a browser in the terminal, if one is installed.
    has_display = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not (has_display and webbrowser.open(report.resolve().as_uri())):
        print(f"mores: no browser on this machine; the report is {report}", file=sys.stderr)
