"""How like a test's path is to that of a file: by its name, by a folder named for it, by lying beside it."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

SAME_NAME, LIKE_NAME, NAMED_FOLDER, BESIDE = 0.6, 0.3, 0.3, 0.1
# What a likeness of names counts where the folders have nothing in common: half of the trees have several `utils`.
ELSEWHERE = 0.5

_AFFIX = re.compile(r"^(?:tests?|unittest)_?|_?tests?$")
_WORD = re.compile(r"[a-z0-9]+")
_TEST_FOLDERS = frozenset({"test", "tests", "unit", "integration", "src", "lib"})


class Names:
    """The names of the touched files, to compare those of tests with."""

    def __init__(self, touched: Collection[str]) -> None:
        """Take paths, relative and with `/`, which the tree need not have."""
        self._files = [(subject_of(path), _folders(path)) for path in sorted(touched)]

    def likeness(self, test: str) -> float:
        """Return how like a test's path is to the touched one that it is most like, from 0 to 1."""
        subject, folders = subject_of(test), _folders(test)
        return max((_likeness(subject, folders, *file) for file in self._files), default=0.0)


def _likeness(test: str, around: tuple[str, ...], subject: str, folders: tuple[str, ...]) -> float:
    shared = bool({folder.lower() for folder in around} & {folder.lower() for folder in folders} - _TEST_FOLDERS)
    beside = BESIDE if folders and around[: len(folders)] == folders else 0.0
    if not subject:
        return beside
    words, wanted = _WORD.findall(test), _WORD.findall(subject)
    named = 0.0
    if test == subject:
        named = SAME_NAME
    elif wanted and any(words[at : at + len(wanted)] == wanted for at in range(len(words))):
        named = LIKE_NAME
    if any(subject == subject_of(folder) for folder in around):
        named = max(named, NAMED_FOLDER)
    return beside + named * (1.0 if shared else ELSEWHERE)


def subject_of(path: str) -> str:
    """Return what a file is about, by its name in lower case: "cart" of `test_cart.py`, `_cart.py`, `cart/__init__.py`.

    Empty where the name tells nothing: of `tests.py`.
    """
    parts = PurePosixPath(path).parts
    name = PurePosixPath(path).stem
    if name in {"__init__", "__main__"}:
        name = parts[-2] if len(parts) > 1 else ""
    bare = name.lower().strip("_")
    return _AFFIX.sub("", bare, count=2).strip("_")


def _folders(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts[:-1]
