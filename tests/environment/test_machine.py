import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.machine import (
    Index,
    PythonRequirement,
    choose_python,
    classified_minors,
    find_index,
    find_rust,
)

HERE = sys.version_info.minor


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def is_there(path: Path) -> bool:
    return path.exists()


def says(version: str, path: str) -> str:
    return f"""echo '["{path}", [{version.replace(".", ", ")}]]'"""


def test_this_python_where_it_suits() -> None:
    found, notes = choose_python(PythonRequirement((">=3.7",)), {})
    assert (found.version, notes) == (tuple(sys.version_info[:3]), ())
    assert found.path == Path(sys.executable).resolve()


def test_one_on_the_path_or_of_pyenv_where_this_one_does_not_suit(tmp_path: Path) -> None:
    real = program(tmp_path / "real/python", "true")
    program(tmp_path / "bin/python3.9", says("3.9.1", str(real)))
    found, notes = choose_python(PythonRequirement(("==3.9.*",)), {"PATH": f"{tmp_path}/none:{tmp_path}/bin"})
    assert (found.path, found.version, notes) == (real, (3, 9, 1), ())
    program(tmp_path / "pyenv/versions/3.8.18/bin/python3", says("3.8.18", str(real)))
    found, _ = choose_python(PythonRequirement(("<3.9",)), {"PYENV_ROOT": str(tmp_path / "pyenv")})
    assert found.version == (3, 8, 18)


def test_a_python_that_the_project_does_not_name_is_told() -> None:
    found, notes = choose_python(PythonRequirement((), (2,)), {})
    assert found.version == sys.version_info[:3]
    told = f"its tests run on 3.{sys.version_info.minor}."
    assert notes == (f"The project names Python 3.2, which is not here: {told}",)


def test_what_only_looks_like_a_python_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.9", "echo 'pyenv: python3.9: command not found' >&2; exit 127")
    program(tmp_path / "bin/python3.8", says("3.7.1", "/x"))
    program(tmp_path / "bin/python3.5", says("3.5.1", "/x"))
    program(tmp_path / "bin/python3.7", "echo 3")
    (tmp_path / "bin/python3.6").symlink_to("python3.6")
    found, notes = choose_python(PythonRequirement(("<3.10",)), {"PATH": str(tmp_path / "bin")}, is_there)
    assert found.version[1] == HERE
    assert notes == (f"The project asks for Python <3.10, which is not here: its tests run on 3.{HERE}.",)


@pytest.mark.parametrize(
    ("specifier", "allowed"),
    [
        ("", range(6, 15)),
        (">=3.8", range(8, 15)),
        (">=3.8.1,<3.12", range(8, 12)),
        (">= 3.8, < 4", range(8, 15)),
        (">=3.8 <3.11", range(8, 11)),
        ("<=3.9", range(6, 10)),
        ("<3.9.5", range(6, 10)),
        (">=3.7,!=3.8.*", [7, *range(9, 15)]),
        (">=3.7,!=3.8.1", range(7, 15)),
        ("~=3.9", range(9, 15)),
        ("~=3.9.2", [9]),
        ("==3.10.*", [10]),
        ("==3.*", range(6, 15)),
        ("^3.8", range(8, 15)),
        ("~3.8", [8]),
        ("3.9.*", [9]),
        ("^2.7 || ^3.10", range(10, 15)),
        (">=2.7", range(6, 15)),
        ("<3", []),
        ("*", range(6, 15)),
        ("nonsense", range(6, 15)),
    ],
)
def test_a_specifier_allows(specifier: str, allowed: object) -> None:
    wish = PythonRequirement((specifier,))
    assert isinstance(allowed, (range, list))
    assert [minor for minor in range(6, 15) if wish.allows(minor)] == list(allowed)


def test_a_specifier_longer_than_any_is_none() -> None:
    assert PythonRequirement((f">={'1.1' * 50_000}!",)).allows(11)


def test_this_python_comes_first_unless_the_project_is_tested_on_others() -> None:
    available = range(7, 15)
    assert PythonRequirement().ordered(available, 11)[0] == 11
    assert PythonRequirement((">=3.8",), (9, 11)).ordered(available, 11)[0] == 11
    assert PythonRequirement((">=3.8",), (8, 9)).ordered(available, 11)[:4] == (9, 8, 10, 11)
    assert PythonRequirement(("<3.9",)).ordered(available, 11) == (8, 7)
    assert PythonRequirement((">=3.20",)).ordered(available, 11) == ()


def test_classifiers_tell_what_it_is_tested_on() -> None:
    lines = ("Programming Language :: Python :: 3.9", "Programming Language :: Python :: 3.10 ", "Programming :: 3.8")
    others = ("Programming Language :: Python :: 3", "Programming Language :: Python :: 2.7")
    assert classified_minors((*lines, *others)) == {9, 10}


@given(st.text(alphabet="<>=!~^|*., 0123456789xab"), st.integers(0, 20))
def test_any_text_is_taken_for_a_specifier(specifier: str, minor: int) -> None:
    assert isinstance(PythonRequirement((specifier,)).allows(minor), bool)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".config/pip").mkdir(parents=True)
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "named.conf")}


def test_files_then_variables(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://one/simple\nextra-index-url =\n    https://two/simple\n    https://three/simple\n"
        "[install]\ntrusted-host = two\nno-deps = yes\n"
    )
    (tmp_path / "named.conf").write_text("[global]\ntimeout = 7\ntrusted-host = %(x)s\n")
    found = find_index({**home, "PIP_INDEX_URL": "https://zero/simple", "PIP_USER": "1", "SECRET": "s"})
    told = dict(found.variables())
    assert told["PIP_INDEX_URL"] == "https://zero/simple"
    assert told["PIP_EXTRA_INDEX_URL"] == "https://two/simple https://three/simple"
    assert (told["PIP_TIMEOUT"], told["PIP_TRUSTED_HOST"]) == ("7", "%(x)s")
    assert not {"PIP_USER", "PIP_NO_DEPS", "SECRET"} & set(told)
    assert told["PIP_CONFIG_FILE"] == "/dev/null"


def test_uv_is_told_the_same_in_its_own_words(home: dict[str, str], tmp_path: Path) -> None:
    told = {"PIP_INDEX_URL": "https://zero/simple", "PIP_FIND_LINKS": f"https://one {tmp_path} /gone"}
    told |= {"PIP_NO_INDEX": "1", "UV_EXTRA_INDEX_URL": "https://more/simple", "UV_CACHE_DIR": "/x", "PIP_TIMEOUT": "9"}
    index = find_index({**home, **told})
    same = {"UV_DEFAULT_INDEX": "https://zero/simple", "UV_INDEX": "https://more/simple", "UV_HTTP_TIMEOUT": "9"}
    for here, links in ((True, f"https://one,{tmp_path}"), (False, "https://one")):
        found = {name: value for name, value in index.variables(here=here) if name.startswith("UV_")}
        assert found == same | {"UV_FIND_LINKS": links}, "a folder that is not there is an error to uv"
    assert index.options() == ("--no-index",)


def test_pip_can_be_told_to_read_no_file(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://one/simple\n")
    assert find_index({**home, "PIP_CONFIG_FILE": "/dev/null"}).settings == ()


def test_proxies_are_passed_on_in_both_spellings(home: dict[str, str]) -> None:
    proxies = {"http_proxy": "http://a", "HTTPS_PROXY": "http://b", "no_proxy": "c"}
    assert dict(find_index({**home, **proxies}).proxies) == proxies


def test_certificates_are_a_file_of_the_box(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(b"CERT")
    (tmp_path / "named.conf").write_text(f"[global]\ncert = {tmp_path}/own.pem\n")
    assert find_index(home).certificates == b"CERT"
    (tmp_path / "other.pem").write_bytes(b"OTHER")
    found = find_index({**home, "SSL_CERT_FILE": str(tmp_path / "other.pem")})
    assert found.certificates == b"OTHER"
    assert [(file.path, file.data) for file in found.placed("there.pem")] == [("there.pem", b"OTHER")]
    assert find_index({**home, "PIP_CERT": str(tmp_path / "none.pem")}).placed("there.pem") == ()
    assert str(tmp_path) not in str(found.variables())


def test_folders_of_this_machine_are_those_that_serve_as_indexes(tmp_path: Path) -> None:
    for name in ("wheels", "index/simple", "with space"):
        (tmp_path / name).mkdir(parents=True)
    value = f"{tmp_path}/wheels https://host/simple file://{tmp_path}/with%20space {tmp_path}/none relative file://[x"
    index = Index((("find-links", value), ("index-url", f"file://{tmp_path}/index/simple"), ("timeout", "/etc")))
    assert index.folders() == (tmp_path / "wheels", tmp_path / "with space", tmp_path / "index")


@pytest.mark.parametrize("text", ["[", "no section", "\0", "[global]\nindex-url"])
def test_a_file_that_cannot_be_parsed_says_nothing(home: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "named.conf").write_text(text)
    (tmp_path / ".config/pip/pip.conf").write_bytes(b"\xff\xfe")
    assert "index-url" not in dict(find_index(home).settings)


def test_the_toolchain_of_rust_is_the_one_that_rustup_takes(tmp_path: Path) -> None:
    told = {"HOME": str(tmp_path)}
    assert find_rust(told) == ()
    folder = tmp_path / ".rustup/toolchains/stable"
    (folder / "bin").mkdir(parents=True)
    (tmp_path / ".rustup/settings.toml").write_text('default_toolchain = "stable"\n')
    assert find_rust(told) == ()
    (folder / "bin/cargo").touch()
    assert find_rust(told) == find_rust({"RUSTUP_HOME": f"{tmp_path}/.rustup"}) == (folder,)
