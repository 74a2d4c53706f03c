"""`python -m agentless_mini` is `amini`."""

import os
import signal

from agentless_mini.errors import EXIT_INTERRUPTED


def main() -> None:
    """Run the command line; the console script's entry. Ctrl-C before there is anything to tell ends it quietly."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    from agentless_mini.cli import main as run

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
