"""`python -m tests`: the gates, in the order of how quickly they fail. Arguments go to pytest."""

import subprocess
import sys

GATES = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))


def main(arguments: list[str]) -> int:
    commands = [*GATES, ("pytest", *arguments)]
    for command in commands:
        print("+", *command, flush=True)  # noqa: T201 - a progress line of a script
        code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
