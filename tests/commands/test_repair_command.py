"""`amini repair` as a user runs it."""

import json
import re
from pathlib import Path

from tests.chain.workbench import FIX, NONSENSE, edit
from tests.commands.running import ISSUE, VOTE_ALONE, Home, server
from tests.fakes.server import ScriptedServer
from tests.gitrepo import git, write_files

PRICES = "    for price in prices:\n"


def repair(home: Home, endpoint: ScriptedServer, *more: str) -> tuple[int, str, str]:
    done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5", *more)
    return done.returncode, done.stdout, done.stderr


def test_the_patch_alone_is_on_stdout_and_git_applies_it(home: Home) -> None:
    with server() as endpoint:
        code, patch, told = repair(home, endpoint)
    assert code == 0
    assert patch.startswith("diff --git a/shop/cart.py b/shop/cart.py\n")
    git(home.repository, "apply", stdin=patch.encode())
    assert PRICES in (home.repository / "shop/cart.py").read_text()
    assert "3 of 4 valid samples agree" in told
    assert "confidence 7" in told
    assert "%: 3 of 4 votes" in told
    assert "Sampling repairs: 5/5, 4 valid, 1 rejected" in told
    assert "\x1b" not in told


def test_the_first_line_says_who_answers_and_every_request_what_it_is_for(home: Home) -> None:
    with server() as endpoint:
        _, _, told = repair(home, endpoint, "--max-tokens", "300")
        named = f"run 1: scripted ({endpoint.url}; window of 8192 tokens); 5 repairs, 0 new tests; no test is run"
        chats = endpoint.log.chats()
    assert told.splitlines()[0] == f"{named} (--sandbox none)"
    assert {json.loads(chat.body)["max_tokens"] for chat in chats} == {300}
    commit = git(home.repository, "rev-parse", "HEAD").decode()[:12]
    assert [chat.stage for chat in chats] == ["localize", "repair"]
    assert {chat.instance for chat in chats} == {f"shop@{commit}"}


def test_what_is_recorded_is_not_paid_for_again_even_when_the_server_is_gone(home: Home) -> None:
    with server() as endpoint:
        first = repair(home, endpoint, "--model", "scripted")
        sent = len(endpoint.log.requests)
        second = repair(home, endpoint, "--model", "scripted")
        assert len(endpoint.log.requests) == sent
        repair(home, endpoint, "-n", "8")
        assert [seen.samples for seen in endpoint.log.chats()] == [(0, 1, 2, 3), (0, 1, 2, 3, 4), (5, 6, 7)]
    third = repair(home, endpoint)
    assert second[:2] == third[:2] == first[:2]
    assert "9 of 9 samples from the record" in second[2]
    assert "does not answer; it served scripted last" in third[2]


def test_the_working_tree_counts_as_it_is_now_and_is_not_touched(home: Home) -> None:
    write_files(home.repository, {"shop/cart.py": (home.repository / "shop/cart.py").read_bytes() + b"MINE = 1\n"})
    before = git(home.repository, "status", "--porcelain=v2")
    with server(edit("MINE = 1\n", "YOURS = 1\n")) as endpoint:
        code, patch, _ = repair(home, endpoint)
    assert code == 0
    assert "-MINE = 1\n+YOURS = 1\n" in patch
    assert git(home.repository, "status", "--porcelain=v2") == before


def test_a_commit_can_be_repaired_instead_of_the_working_tree(home: Home) -> None:
    write_files(home.repository, {"shop/cart.py": b"rewritten = True\n"})
    with server() as endpoint:
        code, patch, _ = repair(home, endpoint, "--rev", "HEAD")
    assert code == 0
    git(home.repository, "checkout", "--quiet", "shop/cart.py")
    git(home.repository, "apply", "--check", stdin=patch.encode())


def test_without_a_valid_patch_stdout_is_empty_and_the_exit_code_one(home: Home) -> None:
    with server(NONSENSE) as endpoint:
        code, patch, told = repair(home, endpoint)
    assert (code, patch) == (1, "")
    assert "no-edit 5" in told
    assert "no sample became a valid patch" in told


def test_apply_changes_the_working_tree_and_output_goes_to_a_file(home: Home) -> None:
    with server() as endpoint:
        code, printed, _ = repair(home, endpoint, "--apply", "-o", "../fix.patch")
    assert (code, printed) == (0, "")
    assert PRICES in (home.repository / "shop/cart.py").read_text()
    git(home.repository, "apply", "--reverse", "--check", stdin=(home.root / "fix.patch").read_bytes())


def test_json_is_one_document_with_the_patch_and_every_sample(home: Home) -> None:
    with server() as endpoint:
        code, printed, _ = repair(home, endpoint, "--json")
    document = json.loads(printed)
    assert code == 0
    choice = document["prediction"]["choice"]
    assert (choice["votes"], choice["valid"]) == (3, 4)
    assert choice["patch"]["diff"]["text"].startswith("diff --git")
    assert [sample["stage"] for sample in document["samples"]] == ["localize"] * 4 + ["repair"] * 5
    assert [sample["outcome"]["valid"] for sample in document["samples"][4:]] == [True, True, False, True, True]
    assert document["run"]["start"]["settings"]["repair"]["samples"] == 5
    assert document["run"]["start"]["versions"]["amini"]


def test_the_issue_comes_from_stdin_or_the_command_line_and_quiet_says_nothing(home: Home) -> None:
    with server() as endpoint:
        piped = home.amini("repair", ".", "-", "--base-url", endpoint.url, "-n", "5", stdin=ISSUE)
        said = home.amini("repair", ".", "--text", ISSUE, "--base-url", endpoint.url, "-n", "5", "--quiet")
    assert (piped.returncode, said.returncode, said.stderr) == (0, 0, "")
    assert piped.stdout == said.stdout != ""


def test_given_files_skip_localization(home: Home) -> None:
    with server() as endpoint:
        code, _, told = repair(home, endpoint, "--files", "shop/cart.py")
        assert [chat.stage for chat in endpoint.log.chats()] == ["repair"]
    assert code == 0
    assert "files      shop/cart.py\n" in told


def test_a_settings_file_sets_and_a_flag_overrides(home: Home) -> None:
    folder = home.root / "config/amini"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text("[repair]\nsamples = 3\nseed = 7\n[localize]\nsamples = 2\n" + VOTE_ALONE)
    with server() as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "--seed", "1")
        asked = [(chat.stage, chat.samples) for chat in endpoint.log.chats()]
    assert done.returncode == 0
    assert asked == [("localize", (1, 2)), ("repair", (1, 2, 3))]


def test_a_key_is_sent_but_recorded_nowhere(home: Home) -> None:
    with server() as endpoint:
        done = home.amini(
            "repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "1", env={"AMINI_API_KEY": "sk-secret-1"}
        )
    assert done.returncode == 0
    stores = list((home.root / "state").rglob("*.sqlite*"))
    assert stores
    assert not any(b"sk-secret-1" in path.read_bytes() for path in stores)


def test_show_lists_runs_and_opens_one(home: Home) -> None:
    with server() as endpoint:
        repair(home, endpoint)
    listed = home.amini("show")
    assert listed.returncode == 0
    assert re.search(r"1 .*done", listed.stdout)
    opened = home.amini("show", "1", "--prompts", "--completions")
    assert opened.returncode == 0
    assert "--- BEGIN ISSUE ---" in opened.stdout
    assert "I would rather not." in opened.stdout
    assert "no-edit" in opened.stdout
    document = json.loads(home.amini("show", "1", "--json").stdout)
    assert document["run"]["id"] == 1
    assert json.loads(home.amini("show", "--json").stdout)["runs"][0]["status"] == "done"


def test_a_url_is_cloned_and_repaired_without_a_working_tree(home: Home) -> None:
    with server() as endpoint:
        url = home.repository.as_uri()
        done = home.amini("repair", url, "../issue.md", "--base-url", endpoint.url, "-n", "5")
    assert done.returncode == 0
    git(home.repository, "apply", "--check", stdin=done.stdout.encode())


def test_a_prompts_folder_replaces_templates(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "system.j2").write_text("You are a plumber.")
    with server(FIX) as endpoint:
        code, _, _ = repair(home, endpoint, "--prompts", str(folder))
    assert code == 0
    document = json.loads(home.amini("show", "1", "--json", "--prompts").stdout)
    assert all(messages[0]["content"] == "You are a plumber." for messages in document["prompts"].values())


def test_what_the_user_says_of_a_model_counts_although_its_card_is_recorded(home: Home) -> None:
    with server() as endpoint:
        assert repair(home, endpoint)[0] == 0
        code, patch, told = repair(home, endpoint, "--context", "300")
        assert (code, patch) == (2, "")
        assert "larger context" in told
        assert repair(home, endpoint)[0] == 0


def test_nobody_reading_stderr_does_not_cost_the_patch(home: Home) -> None:
    with server() as endpoint:
        words = home.command("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5")
        done = home.run(["bash", "-c", '"$@" 2> >(true)', "bash", *words])
    assert done.returncode == 0
    assert done.stdout.startswith("diff --git")


def test_a_subfolder_uses_the_same_record_and_says_where_to_apply(home: Home) -> None:
    with server() as endpoint:
        repair(home, endpoint)
        sent = len(endpoint.log.chats())
        below = Home(home.root, home.repository / "shop")
        done = below.amini("repair", ".", "../../issue.md", "--base-url", endpoint.url, "-n", "5")
        assert len(endpoint.log.chats()) == sent
    assert done.returncode == 0
    assert f"run it in {home.repository}" in done.stderr


def test_the_first_sample_can_be_greedy_and_is_recorded_apart(home: Home) -> None:
    with server() as endpoint:
        repair(home, endpoint, "--greedy-first", "-n", "3")
        asked = [json.loads(chat.body)["temperature"] for chat in endpoint.log.chats() if chat.stage == "repair"]
        before = len(endpoint.log.chats())
        repair(home, endpoint, "-n", "2")
        assert len(endpoint.log.chats()) == before, "the plain samples are the same ones"
    assert sorted(asked) == [0.0, 1.0]


def test_a_dry_run_asks_nothing_and_needs_no_server(home: Home) -> None:
    with server() as endpoint:
        code, told, _ = repair(home, endpoint, "--dry-run")
        assert code == 0
        assert not endpoint.log.requests
        assert "a window of 32768 tokens is assumed: that of the model is not known (--context says it)" in told
        repair(home, endpoint, "-n", "3")
    code, told, _ = repair(home, endpoint, "--dry-run", "-n", "8", "--json")
    plan = json.loads(told)
    assert (code, plan["model"], plan["window"], plan["known"]) == (0, "scripted", 8192, True)
    stages = {name: (stage["samples"], stage["recorded"]) for name, stage in plan["stages"].items()}
    assert stages == {"localize": (4, 4), "repair": (8, 3)}
    owed = plan["stages"]["repair"]
    assert owed["answer_tokens"] == 5 * 2048
    assert owed["prompt_tokens"] > 100
    assert any("shop/cart.py" in prompt for prompt in plan["prompts"])
    assert "1/1" not in home.amini("show").stdout
    assert home.amini("show", "2").returncode == 2, "a dry run is no run"
    _, told, _ = repair(home, endpoint, "--dry-run", "-n", "8", "--rounds", "4")
    assert "3 more of 2 repairs, whose prompts show earlier patches too" in told
