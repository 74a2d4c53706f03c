"""How the tests of a repository run in a box, and what is read of them.

Outcomes come from records that reporters write in the process of the tests (`inside`), and from what the sandbox
measures of it; never from words that are printed. docs/security.md says what a patch cannot do to the tests and what a
pass is worth, and what remains: the tests run the tree's code, which a patch has changed, in the process that reports
them, so that one that is out to deceive can pass a test that it knows, by what is suspicious (`edits.suspicion`).
What else the user's own command reads (a Makefile, say) is as the patch has it, a tool for tests has its own tests as
the patch has them, and the tests of one patch share a box, where they can disturb each other.
"""

from agentless_mini.testing.plans import guards, harness_of, ran_without

__all__ = ["guards", "harness_of", "ran_without"]
