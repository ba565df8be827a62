"""The command line: `seedbed`, and `python -m seedbed`, under `torchrun` too."""

import os
import signal

INTERRUPTED = 130  # the exit code of a shell's command after Ctrl-C


def main() -> None:
    """Import the command line and run it; Ctrl-C during the import ends the process without a traceback."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup ignores it
    if is_default:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    from seedbed.cli.app import main as run

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the command line has a handler of its own
    run()


if __name__ == "__main__":
    main()
