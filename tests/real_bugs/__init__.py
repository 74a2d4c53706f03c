"""Real bugs of real projects, each between two of its releases on PyPI: what the choice of a patch is measured on.

Nothing of the projects is kept here. A recipe (recipes/*.toml) says by release, SHA-256 and line which places of the
difference of two releases are the fix, and which others make wrong patches; the sdists are fetched once and cached.

    for bug in load_bugs():
        checkout = fetch(bug, folder)      a git repository of the faulty release
        checkout.gold()                    the true fix, as a model's answer
        checkout.answers(seed)             the true fix among nine wrong patches, shuffled
        bug.generated_answers()            tests of mixed quality, as a model's answers
        checkout.judges()                  the fixed release's own tests of the bug, which nobody who chooses may see

It does not choose: that is the code under test.
"""
