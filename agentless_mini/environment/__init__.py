"""The image or virtual environment in which a repository's tests run: found, built once, and kept.

What is guaranteed: nothing of the repository is run but in a box (with `unsafe-local`: but after a warning), the
building of its environment included. A test has no network; the build has the package indexes alone, whose passwords it
is not told (see `proxy`). What is built is kept by what it was built from; of a build that fails only the log is.

What is not: that a build is the same tomorrow, or that a package's code can be trusted with the tests' verdicts.
"""
