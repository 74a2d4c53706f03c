"""Puts a patch on a new branch, as one commit, with git's plumbing: nothing else of the repository changes.

No index, no working tree, no HEAD, no stash is touched, no hook, filter or signing program is run, and what the patch
says is stored byte for byte, whatever line ends or white space the configuration prefers.
"""

import os
import re
import tempfile
from dataclasses import dataclass

from agentless_mini.domain import Issue
from agentless_mini.errors import EnvironmentFailed, RepositoryError, UsageError, printable
from agentless_mini.repository.gitcommand import GitCommand, settings, without_filters

SUBJECT = 72
"""Most letters of a commit's first line."""
_LONGEST_BODY = 10_000
_HEADING = re.compile(r"#{1,6}\s+")
# The configuration that would change bytes, write beside the index that is named, or ask for a pass phrase.
_EXACT = (
    "apply.whitespace=nowarn", "apply.ignoreWhitespace=no", "commit.gpgSign=false", "core.autocrlf=false",
    "core.bare=true", "core.sparseCheckout=false", "core.splitIndex=false", "i18n.commitEncoding=UTF-8",
    "index.sparse=false",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewBranch:
    """A branch that can be made: its short name, and the git folder that gets it."""

    name: str
    git: GitCommand

    def commit(self, base: str, diff: bytes, message: str) -> str:
        """Make the branch at `base` (a full id) with the patch on top, and return the new commit's full id.

        Raises `RepositoryError` where git refuses: the branch has come to be meanwhile, the patch is not one of `base`.
        """
        with tempfile.TemporaryDirectory(prefix="amini-index-") as folder:
            git = self.git.having(variables=[f"GIT_INDEX_FILE={folder}/index"])
            self._run(git, "read-tree", base)
            self._run(git, "apply", "--cached", "-", stdin=diff)
            # The objects of the base that a partial clone lacks are not asked for.
            tree = self._run(git, "write-tree", "--missing-ok")
        said = message.encode("utf-8", "replace")
        commit = self._run(self.git, "commit-tree", "--no-gpg-sign", tree, "-p", base, "-F", "-", stdin=said)
        self._run(self.git, "update-ref", "-m", "amini repair", f"refs/heads/{self.name}", commit, "0" * len(commit))
        return commit

    def _run(self, git: GitCommand, *arguments: str, stdin: bytes = b"") -> str:
        answer = git.ask(*arguments, stdin=stdin)
        if answer.status:
            raise RepositoryError(
                f"The patch cannot be committed to the branch {self.name} ({answer.complaint}): put it there with "
                "`git apply`, or run again with another --commit."
            )
        return answer.out.decode().strip()


def plan_branch(folder: str, name: str, rev: str) -> NewBranch:
    """Return the branch `name` of the repository that a folder is in, which is to start at `rev` and not there yet.

    Raises `UsageError` for a name that is none or taken, `RepositoryError` where there is no repository or commit, and
    `EnvironmentFailed` where it cannot be written.
    """
    here = GitCommand(folder)
    found = os.fsdecode(here.read("rev-parse", "--absolute-git-dir")[:-1])
    git, _ = without_filters(GitCommand(folder, variables=(f"GIT_DIR={found}",)), settings(here))
    git = _identified(git.having(word for setting in _EXACT for word in ("-c", setting)))
    shown = printable(name)
    checked = git.ask("check-ref-format", "--branch", name)
    if checked.status or checked.out != os.fsencode(name) + b"\n":  # the second is another way to say another's name
        raise UsageError(f"{shown!r} is no name for a branch: give --commit another, such as fix-12.")
    reference = f"refs/heads/{name}"
    if not git.ask("show-ref", "--verify", "--quiet", reference).status:
        raise UsageError(f"There is a branch {shown} already: name another with --commit, or delete it.")
    if os.fsencode(f"branch {reference}") in here.read("worktree", "list", "--porcelain").split(b"\n"):
        raise UsageError(f"The branch {shown} is checked out, though it has no commit yet: name another with --commit.")
    # A rehearsal: git locks the reference, finds what stands in its way, and lets go.
    rehearsal = f"start\0create {reference}\0{rev}^{{commit}}\0prepare\0abort\0"
    refused = git.ask("update-ref", "--stdin", "-z", stdin=os.fsencode(rehearsal))
    if refused.status:
        raise EnvironmentFailed(
            f"The branch {shown} cannot be made ({refused.complaint}): name another with --commit, or see that you may "
            "write to the repository."
        )
    return NewBranch(name, git)


def has_changes(folder: str) -> bool:
    """Return whether a working tree has tracked files that are not as HEAD has them, of those that git can tell."""
    here = GitCommand(folder)
    git, _ = without_filters(here, settings(here))
    answer = git.ask("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return not answer.status and bool(answer.out)


def _identified(git: GitCommand) -> GitCommand:
    """Return the command with a name and an address for commits where git has been told none."""
    strict = git.having(["-c", "user.useConfigOnly=true"])
    for role in ("AUTHOR", "COMMITTER"):
        if strict.ask("var", f"GIT_{role}_IDENT").status:
            git = git.having(variables=[f"GIT_{role}_NAME=amini", f"GIT_{role}_EMAIL=amini@localhost"])
    return git


def commit_message(issue: Issue, run: str) -> str:
    """Return the message of a commit: the issue's first line, the rest of it as a quotation, and the run.

    The issue is foreign text. Quoted, no line of it is a trailer, a header or a diff to any tool that reads messages;
    what a terminal would obey is left out.
    """
    first, *rest = [line.rstrip() for line in issue.text.strip().splitlines()]
    subject = printable(_HEADING.sub("", first, count=1).strip().expandtabs(1)) or "Repair an issue"
    if len(subject) > SUBJECT:
        subject = subject[: SUBJECT - 3].rstrip() + "..."
    body = "\n".join(rest).strip("\n")
    if len(body) > _LONGEST_BODY:
        body = body[:_LONGEST_BODY] + "\n..."
    quoted = "\n".join(f"> {printable(line.expandtabs(4))}".rstrip() for line in body.split("\n")) if body else ""
    return "\n\n".join(part for part in (subject, quoted, f"Amini-Run: {printable(run)}") if part) + "\n"
