import sys
from pathlib import Path

from agentless_mini.environment.pythons import Wish, choose_python

HERE = sys.version_info.minor


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def says(version: str, path: str) -> str:
    return f"""echo '["{path}", [{version.replace(".", ", ")}]]'"""


def test_this_python_where_it_suits() -> None:
    found, notes = choose_python(Wish((">=3.7",)), {})
    assert (found.version, notes) == (tuple(sys.version_info[:3]), ())
    assert found.path == Path(sys.executable).resolve()


def test_one_on_the_path_or_of_pyenv_where_this_one_does_not_suit(tmp_path: Path) -> None:
    real = program(tmp_path / "real/python", "true")
    program(tmp_path / "bin/python3.9", says("3.9.1", str(real)))
    found, notes = choose_python(Wish(("==3.9.*",)), {"PATH": f"{tmp_path}/none:{tmp_path}/bin"})
    assert (found.path, found.version, notes) == (real, (3, 9, 1), ())
    program(tmp_path / "pyenv/versions/3.8.18/bin/python3", says("3.8.18", str(real)))
    found, _ = choose_python(Wish(("<3.9",)), {"PYENV_ROOT": str(tmp_path / "pyenv")})
    assert found.version == (3, 8, 18)


def test_what_only_looks_like_a_python_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.9", "echo 'pyenv: python3.9: command not found' >&2; exit 127")
    program(tmp_path / "bin/python3.8", says("3.7.1", "/x"))
    program(tmp_path / "bin/python3.5", says("3.5.1", "/x"))
    found, notes = choose_python(Wish(("<3.10",)), {"PATH": str(tmp_path / "bin")})
    assert found.version[1] == HERE
    assert notes == (f"The project asks for Python <3.10, which is not here: its tests run on 3.{HERE}.",)
