"""How the tests of a repository run in a box, and what is read of them.

Outcomes come from records that reporters write in the process of the tests (`inside`), and from what the sandbox
measures of it; never from words that are printed.

What is guaranteed:

* A patch cannot replace a test, pytest's configuration, what Python or the search for plugins reads, or a reporter:
  those are put over what it brought (`guards`). Nor can a module that it adds stand in for one of the environment.
* A test that hangs, or that ends its process, is known as such and does not keep the others from being run: they go on
  in a new process, or, where the box was killed, each in a step of its own.
* What is printed changes no outcome, nor does what another process than the runner's writes: it is known by its sender
  and by a word, and the lines of a record are sealed. Of two outcomes of one test the worse counts, and none is a pass
  in a process that did not come to a regular end.
* Tests of ours among the others show a patch that makes every test pass.

What is not:

* The tests run the code of the tree, which a patch has changed, in the process that reports them. Such code can find
  the reporter in memory, with its word. So a patch that is out to deceive can pass a test that it knows; what it has to
  do for that is suspicious (`edits.suspicion`).
* What else the user's own command reads (a Makefile, say) is as the patch has it.
* Where a repository is itself a tool for tests, its own tests can be what is repaired, and are not undone.
* Tests of one patch share a process and a box, and can disturb each other as they do on anybody's machine.
"""

from agentless_mini.testing.plans import guards, harness_of, ran_without

__all__ = ["guards", "harness_of", "ran_without"]
