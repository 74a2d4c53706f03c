"""The tables of the store, step by step: step n brings a file of version n - 1 to version n and is never changed again.

What was paid for:

* `prompts`       what was asked, once for all its samples: digest, canonical JSON of messages and task.
* `requests`      a prompt put to a model in one way: key (`SampleRequest.key`), model, prompt, parameters, decoding.
* `samples`       one answer: (key, idx), which stage and instance paid for it, the text, its tokens, when it arrived.
                  `untold` adds up 1, 2 and 4 where the tokens of prompt, cache and answer (then 0) are not known.
* `memo`          any other value by kind and key, packed: `tokens MODEL` (a counted chat), `card` (the last one seen of
                  a model), `endpoint` (the last model that an address served), `score` (of a reward model), `paths`
                  (of a tree, as a rule found them; the newest few).
* `boxes`         one sandbox run: key (`Job.key`), what was run for people to look at, what came of it, its seconds.

What was done with it:

* `runs`          one command on one issue: all that it started from, when, and how it ended.
* `run_samples`   the samples a run used, in the order in which it got them (rowid). A sample that an earlier run
                  used too was replayed.
* `patches`       each distinct diff once; `normal` is equal for patches that count as one vote, `undefined` has the
                  names that it uses undefined.
* `outcomes`      what became of a sample in a run: a patch, or a reason and detail. `ord` is `Candidate.order`,
                  `round` its round of evolution; with `repeats` it is no vote of its own.
* `predictions`   how a run was decided: localization, the chosen patch, its votes, and what the tests say of it.
* `run_boxes`     the sandbox runs that a run used, as `run_samples`.
* `run_scores`    what a reward model gave each distinct patch of a run, by normal form.
* `generated`     what became of a sampled test in a run: a case, or a reason and detail.
* `executions`    the cases of a run and their results without any patch.
* `verdicts`      what the cases say of each distinct patch, by its normal form.

What an evaluation adds, where the store is one's:

* `evaluations`   one row: which dataset with which settings, since when.
* `instances`     the instances of it, with what only a report may know: the true files, the difficulty.
* `attempts`      how far each instance came: the run that decided it, or where and why it failed.
* `grades`        what the official harness said of a patch: key (instance's row and diff).

Columns named for structured values hold JSON; `boxes`, `memo`, `generated`, `executions` and `verdicts` pack it, see
`packing`. Times are seconds since 1970. Text that is no valid Unicode (a lone
surrogate in a model's answer) is stored as a BLOB: see `database.text`.
"""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE prompts (digest TEXT PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE requests (
        key TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        prompt TEXT NOT NULL REFERENCES prompts,
        params TEXT NOT NULL,
        decoding TEXT NOT NULL
    );
    CREATE TABLE samples (
        key TEXT NOT NULL REFERENCES requests,
        idx INTEGER NOT NULL,
        stage TEXT NOT NULL,
        instance TEXT NOT NULL,
        text TEXT NOT NULL,
        reasoning TEXT NOT NULL,
        finish TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        created REAL NOT NULL,
        PRIMARY KEY (key, idx)
    );
    CREATE TABLE token_counts (digest TEXT PRIMARY KEY, model TEXT NOT NULL, tokens INTEGER NOT NULL);
    CREATE TABLE cards (model TEXT PRIMARY KEY, card TEXT NOT NULL);
    CREATE TABLE endpoints (address TEXT PRIMARY KEY, model TEXT NOT NULL);

    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started REAL NOT NULL,
        finished REAL,
        status TEXT NOT NULL,
        exit_code INTEGER,
        model TEXT NOT NULL,
        instance TEXT NOT NULL,
        repository TEXT NOT NULL,
        commit_id TEXT NOT NULL,
        tree TEXT NOT NULL,
        issue TEXT NOT NULL,
        issue_source TEXT NOT NULL,
        command TEXT NOT NULL,
        settings TEXT NOT NULL,
        versions TEXT NOT NULL
    );
    CREATE TABLE run_samples (
        run INTEGER NOT NULL REFERENCES runs,
        key TEXT NOT NULL,
        idx INTEGER NOT NULL,
        UNIQUE (run, key, idx),
        FOREIGN KEY (key, idx) REFERENCES samples (key, idx)
    );
    CREATE INDEX run_samples_by_sample ON run_samples (key, idx, run);
    CREATE TABLE patches (digest TEXT PRIMARY KEY, diff BLOB NOT NULL, normal TEXT NOT NULL, paths TEXT NOT NULL);
    CREATE TABLE outcomes (
        run INTEGER NOT NULL REFERENCES runs,
        key TEXT NOT NULL,
        idx INTEGER NOT NULL,
        ord INTEGER NOT NULL,
        patch TEXT REFERENCES patches,
        reason TEXT,
        detail TEXT,
        PRIMARY KEY (run, key, idx),
        FOREIGN KEY (key, idx) REFERENCES samples (key, idx),
        CHECK ((patch IS NULL) <> (reason IS NULL))
    );
    CREATE TABLE predictions (
        run INTEGER PRIMARY KEY REFERENCES runs,
        localization TEXT NOT NULL,
        notes TEXT NOT NULL,
        patch TEXT REFERENCES patches,
        votes INTEGER NOT NULL,
        valid INTEGER NOT NULL,
        reason TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE boxes (
        key TEXT PRIMARY KEY,
        job NOT NULL,
        result NOT NULL,
        seconds REAL NOT NULL,
        created REAL NOT NULL
    );
    CREATE TABLE run_boxes (
        run INTEGER NOT NULL REFERENCES runs,
        key TEXT NOT NULL REFERENCES boxes,
        UNIQUE (run, key)
    );
    CREATE INDEX run_boxes_by_box ON run_boxes (key, run);
    CREATE TABLE generated (
        run INTEGER NOT NULL REFERENCES runs,
        key TEXT NOT NULL,
        idx INTEGER NOT NULL,
        ord INTEGER NOT NULL,
        test,
        reason TEXT,
        detail TEXT,
        PRIMARY KEY (run, key, idx),
        FOREIGN KEY (key, idx) REFERENCES samples (key, idx),
        CHECK ((test IS NULL) <> (reason IS NULL))
    );
    CREATE TABLE executions (run INTEGER PRIMARY KEY REFERENCES runs, cases NOT NULL, before NOT NULL);
    CREATE TABLE verdicts (
        run INTEGER NOT NULL REFERENCES executions,
        ord INTEGER NOT NULL,
        normal TEXT NOT NULL,
        refusal TEXT NOT NULL,
        results NOT NULL,
        PRIMARY KEY (run, ord)
    );
    ALTER TABLE predictions ADD COLUMN passed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE predictions ADD COLUMN reproducing INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE predictions ADD COLUMN broken INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE predictions ADD COLUMN regressions INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        name TEXT NOT NULL,
        dataset TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        model TEXT NOT NULL,
        settings TEXT NOT NULL,
        versions TEXT NOT NULL,
        started REAL NOT NULL
    );
    CREATE TABLE instances (
        id TEXT PRIMARY KEY,
        repo TEXT NOT NULL,
        difficulty TEXT NOT NULL,
        created TEXT NOT NULL,
        files TEXT NOT NULL,
        image TEXT NOT NULL
    );
    CREATE TABLE attempts (
        instance TEXT PRIMARY KEY REFERENCES instances,
        run INTEGER REFERENCES runs,
        state TEXT NOT NULL,
        stage TEXT NOT NULL,
        failure TEXT NOT NULL,
        seconds REAL NOT NULL
    );
    CREATE TABLE grades (
        key TEXT PRIMARY KEY,
        instance TEXT NOT NULL,
        normal TEXT NOT NULL,
        diff TEXT NOT NULL,
        resolved INTEGER NOT NULL,
        applied INTEGER NOT NULL,
        report TEXT NOT NULL,
        version TEXT NOT NULL,
        seconds REAL NOT NULL,
        created REAL NOT NULL
    );
    CREATE INDEX grades_by_instance ON grades (instance);
    """,
    """
    ALTER TABLE outcomes ADD COLUMN round INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE scores (key TEXT PRIMARY KEY, model TEXT NOT NULL, score REAL NOT NULL, created REAL NOT NULL);
    CREATE TABLE run_scores (run INTEGER REFERENCES runs, normal TEXT, score REAL NOT NULL, PRIMARY KEY (run, normal));
    """,
    # Before, a server that told no usage was booked with no prompt and a count of events: no chat has no tokens.
    """
    ALTER TABLE samples ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
    UPDATE samples SET untold = 7, completion_tokens = 0 WHERE completion_tokens > 0 AND key IN (
        SELECT key FROM samples GROUP BY key HAVING max(prompt_tokens) = 0);
    """,
    """
    ALTER TABLE outcomes ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE patches ADD COLUMN undefined TEXT NOT NULL DEFAULT '[]';
    """,
    "CREATE TABLE derived (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, paths NOT NULL);",
    """
    CREATE TABLE memo (
        kind TEXT NOT NULL, key TEXT NOT NULL, value NOT NULL, created REAL NOT NULL, PRIMARY KEY (kind, key)
    );
    INSERT INTO memo SELECT 'tokens ' || model, digest, CAST(tokens AS TEXT), 0 FROM token_counts
        WHERE typeof(model) = 'text';
    INSERT INTO memo SELECT 'card', model, card, 0 FROM cards;
    INSERT INTO memo SELECT 'endpoint', address, json_quote(model), 0 FROM endpoints WHERE typeof(model) = 'text';
    INSERT INTO memo SELECT 'score', key, printf('%!.17g', score), created FROM scores;
    DROP TABLE token_counts;
    DROP TABLE cards;
    DROP TABLE endpoints;
    DROP TABLE scores;
    DROP TABLE derived;
    """,
)
