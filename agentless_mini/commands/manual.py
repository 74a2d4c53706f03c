"""`amini help [TOPIC]`: prints the manual, whose topics are the files of `agentless_mini/docs`."""

import difflib
import sys
from importlib.resources import files

from agentless_mini.errors import UsageError

_DOCS = files("agentless_mini") / "docs"


def topics() -> dict[str, str]:
    """Return the text of each topic, by name in the order of the alphabet."""
    found = sorted(_DOCS.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".md"): file.read_text("utf-8") for file in found if file.name.endswith(".md")}


def tell(topic: str | None) -> None:
    """Print a topic, or without one what there is: rendered on a terminal, else as it is written."""
    known = topics()
    if topic is not None and topic not in known:
        titled = [name for name, text in known.items() if topic.lower() in text.splitlines()[0].lower()]
        near = titled or difflib.get_close_matches(topic, known, 1)
        meant = f"see `amini help {near[0]}`." if near else "`amini help` lists them."
        raise UsageError(f"The manual has no topic {topic!r}: {meant}")
    lines = (f"- `amini help {name}`: {text.splitlines()[0].removeprefix('# ')}" for name, text in known.items())
    text = known[topic] if topic else "\n".join(["# The manual of amini", "", *lines, ""])
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(text.encode())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text), width=min(console.width, 120))
