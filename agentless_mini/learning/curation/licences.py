"""The licence of a tree, told from the text of its licence file by what each licence says of itself.

It knows the common ones by phrases that only they have, as SPDX names; another is "other", and no file is "". It does
not tell what the licence allows, and does not look into single files.
"""

import re

FILES = tuple(
    stem + suffix
    for stem in ("LICENSE", "LICENCE", "COPYING", "License", "license")
    for suffix in ("", ".txt", ".md", ".rst")
)
OTHER = "other"
MOST_BYTES = 200_000

_PHRASES = (
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"),
    ("BSL-1.0", "boost software license - version 1.0"),
    ("Unlicense", "free and unencumbered software released into the public domain"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("PSF-2.0", "python software foundation license version 2"),
    ("BSD-3-Clause", "neither the name of"),
    ("BSD-3-Clause", "may not be used to endorse or promote products"),
    ("BSD-2-Clause", "redistributions in binary form must reproduce the above copyright"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"),
    ("ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("Apache-2.0", "licensed under the apache license, version 2.0"),
    ("MIT", "the mit license"),
)


def licence_of(data: bytes) -> str:
    """Return the SPDX name of the licence that a file holds."""
    text = _plain(data[:MOST_BYTES].decode("utf-8", "replace"))
    return next((name for name, phrase in _PHRASES if _plain(phrase) in text), OTHER)


def _plain(text: str) -> str:
    return re.sub(r"[\s,]+", " ", text.lower())
