from pathlib import Path

import pytest

from agentless_mini.environment.index import Index, find_index


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


def test_uv_is_told_the_same_in_its_own_words(home: dict[str, str]) -> None:
    told = {"PIP_INDEX_URL": "https://zero/simple", "PIP_FIND_LINKS": "https://one /two", "PIP_RETRIES": "3"}
    variables = find_index({**home, **told}).variables()
    found = {name: value for name, value in variables if name.startswith("UV_")}
    assert found == {"UV_DEFAULT_INDEX": "https://zero/simple", "UV_FIND_LINKS": "https://one,/two"}


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
    value = f"{tmp_path}/wheels https://host/simple file://{tmp_path}/with%20space {tmp_path}/none relative"
    index = Index((("find-links", value), ("index-url", f"file://{tmp_path}/index/simple"), ("timeout", "/etc")))
    assert index.folders() == (tmp_path / "wheels", tmp_path / "with space", tmp_path / "index")


@pytest.mark.parametrize("text", ["[", "no section", "\0", "[global]\nindex-url"])
def test_a_file_that_cannot_be_parsed_says_nothing(home: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "named.conf").write_text(text)
    (tmp_path / ".config/pip/pip.conf").write_bytes(b"\xff\xfe")
    assert "index-url" not in dict(find_index(home).settings)
