"""The command `napari-vqldm`.

Exit codes: 0 done, 1 a bug, 2 a mistake that one line on stderr explains, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from napari_vqldm.errors import VqldmError

PROGRAM = "napari-vqldm"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(run(arguments))


def _leave(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM by an exception, so that temporary files are removed on the way out."""
    raise SystemExit(128 + number)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program name; by default those of the process.
    """
    import typer  # here and not above: importing the package's entry point stays free

    from napari_vqldm.cli.app import app
    from napari_vqldm.cli.console import print_error
    from napari_vqldm.memory import is_out_of_memory

    # typer carries its own copy of click from 0.29 on: find the base class of usage errors in whichever it uses
    bases = (kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception))
    usage_error = next(kind for kind in bases if kind.__name__ == "ClickException")
    try:
        code = app(
            args=list(sys.argv[1:] if arguments is None else arguments), prog_name=PROGRAM, standalone_mode=False
        )
    except VqldmError as error:
        print_error(str(error))
        return 2
    except usage_error as error:
        if message := _message(error):  # empty where typer has shown the help instead
            print_error(f"{message} ({_command(error)} --help shows the options)")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except SystemExit as leave:  # the training engine has its own parser and messages
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except Exception as error:
        if not is_out_of_memory(error):
            _hint_at_bug(error)
            raise
        print_error("not enough memory: use a smaller volume, or another --device")
        return 2
    if code == 130:
        print_error("interrupted; nothing half-written was left")
    return code if isinstance(code, int) else 0


def _message(error: BaseException) -> str:
    """Return what typer says about a wrong option, without a final period."""
    text: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return text.rstrip(".")


def _command(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    return str(getattr(context, "command_path", None) or PROGRAM)


def _hint_at_bug(error: BaseException) -> None:
    from napari_vqldm import __version__
    from napari_vqldm.cli.console import print_error

    print_error(
        f"unexpected {type(error).__name__}: this is a bug in napari-vqldm {__version__}; "
        "please report it with the command and the text below"
    )
