"""`python -m agentless_mini` is `amini`."""

from agentless_mini.cli import main

main()
