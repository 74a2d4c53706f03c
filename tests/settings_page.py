"""`python -m tests.settings_page`: writes the list of all settings in the manual's topic on them, out of their tree."""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

import agentless_mini
from agentless_mini import cli
from agentless_mini.commands.learn import learn
from agentless_mini.commands.options import option_of
from agentless_mini.settings import Config, field_of

PAGE = Path(agentless_mini.__file__).parent / "docs/settings.md"
for group in (cli.amini, learn):  # what is built names the options of settings
    for _, built in group.table.values():
        built()
WIDTH = 110


def page() -> str:
    """Return the page with its list as the tree has it: each setting with its meaning, its flag and its default."""
    listed = "\n".join(sections(Config(), "")).strip()
    return re.sub(r"^```toml\n.*?^```", lambda _: f"```toml\n{listed}\n```", PAGE.read_text(), flags=re.M | re.S)


def sections(section: BaseModel, before: str) -> Iterator[str]:
    """Yield the lines of a section, then those of the sections in it."""
    values = section.model_dump(mode="json")
    inner = {name: value for name, value in section if isinstance(value, BaseModel)}
    for name in (name for name in values if name not in inner):
        flag = option_of(before + name).replace(" / ", ", ").replace(" (or ", ", ").rstrip(")")
        said = f"{field_of(before + name).description}{f' ({flag})' if flag else ''}"
        yield textwrap.fill(said, WIDTH, initial_indent="# ", subsequent_indent="# ")
        is_set = values[name] not in (None, {}) and name != "api_key"
        yield f"{name} = {json.dumps(values[name])}" if is_set else f"# {name} ="
    for name, value in inner.items():
        said = str(field_of(before + name).description)
        said = said.partition("]: ")[2] or said[0].lower() + said[1:]
        yield from ("", f"[{before}{name}]  # {said}")
        yield from sections(value, f"{before}{name}.")


if __name__ == "__main__":
    PAGE.write_text(page())
