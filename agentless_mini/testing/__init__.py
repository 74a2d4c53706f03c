"""How the tests of a repository run in a box, and what is read of them.

Outcomes come from records that reporters write in the process of the tests (`inside`), and from what the sandbox
measures of it; never from words that are printed.

What is guaranteed:

* A patch cannot replace a test, pytest's configuration, what Python or the search for plugins reads, or a reporter:
  those are put over what it brought (`guards`). Nor can a module that it adds stand in for one of the environment.
* A test that hangs, or that ends its process, is known as such and does not keep the others from being run: they go on
  in a new process, or, where the box was killed, each in a step of its own.
* What is printed changes no outcome. Records are read as foreign input, bounded; what was not asked for is left out,
  and of two outcomes of one test the worse counts.

What is not:

* The tests run the code of the tree, which a patch has changed, in the process that writes the record. Such code can
  write anything there, find the reporter in memory, or end the process well. A name of the record that cannot be
  guessed would not help, since that process must know it; and boxes must be told the same each time to be found in the
  store. So a patch that is out to deceive can pass every test, and one that merely prints, exits or edits tests cannot.
* What else the user's own command reads (a Makefile, say) is as the patch has it.
* Where a repository is itself a tool for tests, its own tests can be what is repaired, and are not undone.
* Tests of one patch share a process and a box, and can disturb each other as they do on anybody's machine.
"""

from agentless_mini.testing.plans import guards, harness_of, ran_without

__all__ = ["guards", "harness_of", "ran_without"]
