from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.declared import FILES_LIMIT, LINES_LIMIT, Listed, inside


def read(texts: dict[str, str], path: str = "requirements.txt") -> Listed:
    found = Listed()
    found.read(texts, path)
    return found


def test_lines_as_pip_takes_them() -> None:
    text = """
# a comment
alpha==1.0 --hash=sha256:abc \\
    --hash=sha256:def
beta[extra]>=2 ; python_version < "3.8"  # why
gamma @ https://host/gamma.tar.gz#egg=gamma
git+https://host/delta.git@main#egg=delta
--extra-index-url https://host/simple
-i https://other/simple
--pre
--require-hashes
-e .[test,more]
./libs/epsilon
-e libs/zeta[x]
"""
    found = read({"requirements.txt": text})
    assert found.requirements == [
        "alpha==1.0",
        'beta[extra]>=2 ; python_version < "3.8"',
        "gamma @ https://host/gamma.tar.gz#egg=gamma",
        "git+https://host/delta.git@main#egg=delta",
        "./libs/epsilon",
        "./libs/zeta[x]",
    ]
    assert found.options == ["--extra-index-url", "https://host/simple", "--index-url", "https://other/simple", "--pre"]
    assert (found.extras, found.outside) == (["test", "more"], [])


def test_files_are_followed_from_their_own_folder_and_each_once() -> None:
    texts = {
        "requirements.txt": "-r requirements/a.txt\n--requirement=requirements/b.txt\n-c limits.txt",
        "requirements/a.txt": "-rb.txt\na\n-r ../requirements.txt",
        "requirements/b.txt": "b\n-r a.txt\n-f wheels",
        "limits.txt": "a<2\n-r more-limits.txt",
        "more-limits.txt": "b<3",
    }
    found = read(texts)
    assert found.requirements == ["b", "a"]
    assert found.constraints == ["a<2", "b<3"]
    assert found.options == ["--find-links", "requirements/wheels"]


def test_nothing_outside_of_the_tree_is_read_or_passed_on() -> None:
    texts = {
        "requirements.txt": "-r ../../etc/passwd\n-r /etc/shadow\n-c ../x\n-e ../other\n../wheel.whl\n/srv/a.zip\n"
        "-f ../wheels\nfile:///etc/passwd\n~/x.whl\n$HOME/x.whl\n-r a/../../b",
        "../../etc/passwd": "evil",
    }
    found = read(texts)
    assert (found.requirements, found.constraints, found.options) == ([], [], [])
    assert len(found.outside) == 11
    assert found.paths == ["requirements.txt"]


def test_what_could_be_an_option_or_more_than_a_line_is_left_out() -> None:
    found = read({"requirements.txt": "--index-url file:///x\n--proxy evil\n-x\n\x1b[31malpha\n" + "y" * 600 + "\nz"})
    assert (found.requirements, found.options) == (["z"], [])


def test_size_and_number_are_limited() -> None:
    assert len(read({"requirements.txt": "a\n" * 20_000}).requirements) == LINES_LIMIT
    assert read({"requirements.txt": "a\n" * 200_000}).requirements == []
    chain = {f"{number}.txt": f"-r {number + 1}.txt\n" for number in range(1000)}
    assert len(read(chain, "0.txt").paths) == FILES_LIMIT


@given(st.text())
def test_any_text_is_read_and_no_requirement_can_be_an_option(text: str) -> None:
    found = read({"requirements.txt": text})
    assert all(line[0].isalnum() or line.startswith("./") for line in found.requirements)
    assert all(line.isprintable() for line in found.requirements)


@given(st.text(alphabet="./a~$\0"), st.text(alphabet="./a~$\0"))
def test_a_path_inside_stays_inside(folder: str, value: str) -> None:
    path = inside(folder.strip("/."), value)
    assert path is None or not (path.startswith("/") or ".." in path.split("/"))
