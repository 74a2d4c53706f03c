"""Values as the text of a `<script>` block that no browser runs or parses as markup, whatever text is in them."""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

# JSON may spell these as escapes anywhere in a text. The end of a block, a comment and an entity need one of them.
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}
_LEVEL = 9


def json_block(value: Mapping[str, Any]) -> Markup:
    """Return the value as JSON in ASCII without `<`, `>` and `&`; lone surrogates and U+2028 are escapes in it."""
    return Markup(_text(value).translate(_ESCAPES))  # noqa: S704 - nothing is left in it that ends the block


def packed_block(value: Mapping[str, Any]) -> Markup:
    """Return the value as base64 of zlib of JSON, for what is read only when someone asks for it."""
    packed = zlib.compress(_text(value).encode("ascii"), _LEVEL)
    return Markup(base64.b64encode(packed).decode("ascii"))  # noqa: S704 - letters, digits, +, / and =


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
