"""The command line: its commands, and its entry point `main`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

import typer

from mores.cli import completion
from mores.cli.app import app
from mores.cli.catalog_commands import describe_command, list_command
from mores.cli.check_commands import calibrate_command, check_command
from mores.cli.claims_command import claims_command
from mores.cli.error_output import print_errors, usage_message, with_remedy
from mores.cli.exit_codes import DEFECT, EXIT_CODES, INTERRUPTED, PIPE_CLOSED
from mores.cli.run_commands import extend_command, resume_command, run_command
from mores.cli.standard_streams import (
    discard_stdout,
    open_closed_streams,
    remove_invalid_sizes,
)
from mores.core.errors import UserError, describe_exception, printable

# Errors of the operating system that are reported as wrong input, not as a defect.
DISK_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EEXIST, errno.ENOTDIR,
    errno.ENOENT, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ENOTSUP,
}  # fmt: skip

SHORT_HELP = {
    "resume": "Resume a run that was stopped.",
    "extend": "Add replicates, arms or rounds to a run.",
    "calibrate": "Fit a scenario's parameters to empirical targets.",
    "list": "List environments, policies, metrics, scenarios ...",
    "describe": "Print documentation and parameters of an entry.",
    "claims": "List claims with their papers and last verdicts.",
}
COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": run_command,
    "resume": resume_command,
    "extend": extend_command,
    "check": check_command,
    "calibrate": calibrate_command,
    "list": list_command,
    "describe": describe_command,
    "claims": claims_command,
}
for _name, _function in COMMANDS.items():
    app.command(_name, epilog=EXIT_CODES, short_help=SHORT_HELP.get(_name))(_function)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors are lines on standard error. With MORES_TRACEBACK a defect is raised.
    """
    open_closed_streams()
    remove_invalid_sizes()
    if os.environ.get(completion.VARIABLE):
        return _print_completions()
    command = typer.main.get_command(app)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character of a claim
    context = None
    try:
        context = command.make_context("mores", arguments or ["--help"])
        with context:
            code = command.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UserError as error:
        return print_errors(with_remedy(str(error), error))
    except KeyboardInterrupt as error:
        name = str(error)  # of the signal, empty for Ctrl-C
        reason = f"stopped by {name}" if name else "interrupted"
        print(with_remedy(f"mores: {reason}", error), file=sys.stderr)
        return 128 + signal.Signals[name] if name in signal.Signals.__members__ else INTERRUPTED
    except BrokenPipeError:
        discard_stdout()
        return PIPE_CLOSED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # of rich, which prints the help
            return PIPE_CLOSED
        if context is None:  # of typer, which has printed or installed a completion
            return error.code if isinstance(error.code, int) else 0
        reason = "code of a loaded class called sys.exit"
        print(f"mores: {describe_exception(error)}: {reason}", file=sys.stderr)
        return DEFECT
    except BaseException as error:  # also a class of the user that is no `Exception`
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            path = printable(error.filename or "the disk", 200)
            return print_errors(f"mores: {path}: {error.strerror}")
        # The exception classes of typer have other import paths in other versions.
        code = getattr(error, "exit_code", None)
        if code is None:
            if os.environ.get("MORES_TRACEBACK"):
                raise
            line = f"mores: {describe_exception(error)}; traceback: set MORES_TRACEBACK=1"
            print(with_remedy(line, error), file=sys.stderr)
            return DEFECT
        if hasattr(error, "format_message"):
            return print_errors(usage_message(error, command, arguments))
        return int(code)


def _print_completions() -> int:
    """Print the completions that the shell asks for. Errors are silent: the user is typing."""
    code = 1
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            app(prog_name="mores")
    except SystemExit as error:  # after success, too
        code = error.code if isinstance(error.code, int) else 1
    except (Exception, KeyboardInterrupt):
        pass
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
    return code


if __name__ == "__main__":
    sys.exit(main())
