"""The image or virtual environment in which a repository's tests run: found, built once, and kept.

What is guaranteed: nothing of the repository is run but in a box (with `unsafe-local`: but after a warning), the
building of its environment included. A test has no network; the build has the package indexes alone, whose passwords it
is not told (see `proxy`). What is built is kept by the content of what it was built from, and shared by runs of the
same user; a build that fails or is interrupted is not kept, its log is.

What is not: that a build is the same tomorrow. It takes what the index has today, within what the repository asks for.
Whoever installs a package trusts its code with the tests' verdicts.
"""
