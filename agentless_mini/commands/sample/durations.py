"""Durations as people write them: "1h 30m" to seconds and back."""

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PART = re.compile(r"(\d+)\s*([dhms])")


def parse_duration(text):
    """Return the seconds of a text such as "2h 15m". Raises ValueError for anything else."""
    parts = PART.findall(text.lower())
    if not parts or PART.sub("", text.lower()).strip():
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(count) * UNITS[unit] for count, unit in parts)


def format_duration(seconds):
    """Return seconds as a text such as "2h 15m", the largest unit first."""
    if seconds == 0:
        return "0s"
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count > 1:
            parts.append(f"{count}{unit}")
    return " ".join(parts)
