"""The tables of the store.

Columns named for structured values hold JSON; those without a type pack it (`records.pack`). Times are seconds since
1970. Text that is no valid Unicode (a lone surrogate in a model's answer) is stored as a BLOB: see `database.text`.
"""

VERSION = 10
"""Grows with every change of the tables: a file of another version is refused with a sentence."""

TABLES = """
-- What was paid for --------------------------------------------------------------------------------------------------

CREATE TABLE prompts (  -- what was asked, once for all its samples: canonical JSON of messages and task
    digest TEXT PRIMARY KEY, body TEXT NOT NULL
);
CREATE TABLE requests (  -- a prompt put to a model in one way; the key is `SampleRequest.key`
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL, prompt TEXT NOT NULL REFERENCES prompts, params TEXT NOT NULL, decoding TEXT NOT NULL
);
CREATE TABLE samples (  -- one answer, which stage and instance paid for it, and when it arrived
    key TEXT NOT NULL REFERENCES requests, idx INTEGER NOT NULL,
    stage TEXT NOT NULL, instance TEXT NOT NULL, text TEXT NOT NULL, reasoning TEXT NOT NULL, finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    created REAL NOT NULL,
    untold INTEGER NOT NULL DEFAULT 0,  -- adds up 1, 2 and 4 where tokens of prompt, cache, answer (0) are not known
    PRIMARY KEY (key, idx)
);
CREATE TABLE memo (  -- any other value, packed. `tokens MODEL`: a counted chat; `card`: the last one seen of a model;
    -- `endpoint`: the last model that an address served; `score`: of a reward model; `paths`: of a tree, as a rule
    -- found them (the newest few)
    kind TEXT NOT NULL, key TEXT NOT NULL, value NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE TABLE boxes (  -- a sandbox run by `Job.key`: what was run, for people to look at, and what came of it
    key TEXT PRIMARY KEY, job NOT NULL, result NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL
);

-- What was done with it ----------------------------------------------------------------------------------------------

CREATE TABLE runs (  -- one command on one issue: all that it started from, when, and how it ended
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started REAL NOT NULL, finished REAL, status TEXT NOT NULL, exit_code INTEGER, failure TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL, instance TEXT NOT NULL, repository TEXT NOT NULL, commit_id TEXT NOT NULL, tree TEXT NOT NULL,
    issue TEXT NOT NULL, issue_source TEXT NOT NULL,
    command TEXT NOT NULL, settings TEXT NOT NULL, versions TEXT NOT NULL
);
CREATE TABLE run_samples (  -- the samples that a run used, in this order (rowid); one that an earlier run used, too,
    -- was replayed
    run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, idx INTEGER NOT NULL,
    UNIQUE (run, key, idx),
    FOREIGN KEY (key, idx) REFERENCES samples (key, idx)
);
CREATE INDEX run_samples_by_sample ON run_samples (key, idx, run);
CREATE TABLE run_boxes (  -- the sandbox runs that a run used, likewise
    run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL REFERENCES boxes,
    UNIQUE (run, key)
);
CREATE INDEX run_boxes_by_box ON run_boxes (key, run);
CREATE TABLE run_scores (  -- what a reward model gave each distinct patch of a run, by normal form
    run INTEGER REFERENCES runs, normal TEXT, score REAL NOT NULL,
    PRIMARY KEY (run, normal)
);
CREATE TABLE patches (  -- each distinct diff; equal `normal`s are one vote, `undefined` are names used without one,
    -- or those and what is suspicious: {"undefined": [], "suspicious": []}
    digest TEXT PRIMARY KEY,
    diff BLOB NOT NULL, normal TEXT NOT NULL, paths TEXT NOT NULL, undefined TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE outcomes (  -- what became of a sample in a run: a patch, or why not; see `Candidate`
    run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, idx INTEGER NOT NULL, ord INTEGER NOT NULL,
    patch TEXT REFERENCES patches, reason TEXT, detail TEXT,
    round INTEGER NOT NULL DEFAULT 0, repeats INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, key, idx),
    FOREIGN KEY (key, idx) REFERENCES samples (key, idx),
    CHECK ((patch IS NULL) <> (reason IS NULL))
);
CREATE TABLE generated (  -- what became of a sampled test in a run: a case, or why not
    run INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, idx INTEGER NOT NULL, ord INTEGER NOT NULL,
    test, reason TEXT, detail TEXT,
    PRIMARY KEY (run, key, idx),
    FOREIGN KEY (key, idx) REFERENCES samples (key, idx),
    CHECK ((test IS NULL) <> (reason IS NULL))
);
CREATE TABLE predictions (  -- how a run was decided; see `Choice`
    run INTEGER PRIMARY KEY REFERENCES runs,
    localization TEXT NOT NULL, notes TEXT NOT NULL,
    patch TEXT REFERENCES patches, votes INTEGER NOT NULL, valid INTEGER NOT NULL, reason TEXT NOT NULL,
    passed INTEGER NOT NULL DEFAULT 0, reproducing INTEGER NOT NULL DEFAULT 0,
    broken INTEGER NOT NULL DEFAULT 0, regressions INTEGER NOT NULL DEFAULT 0,
    own TEXT NOT NULL DEFAULT 'null'  -- what became of the repository's own tests: see `Regressions`
);
CREATE TABLE executions (  -- the cases of a run, and their results without any patch
    run INTEGER PRIMARY KEY REFERENCES runs, cases NOT NULL, before NOT NULL
);
CREATE TABLE verdicts (  -- what the cases say of each distinct patch
    run INTEGER NOT NULL REFERENCES executions, ord INTEGER NOT NULL,
    normal TEXT NOT NULL, refusal TEXT NOT NULL, results NOT NULL,
    PRIMARY KEY (run, ord)
);

-- What an evaluation adds, where the store is one's ------------------------------------------------------------------

CREATE TABLE evaluations (  -- one row: which dataset with which settings, since when
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL, dataset TEXT NOT NULL, fingerprint TEXT NOT NULL, model TEXT NOT NULL,
    settings TEXT NOT NULL, versions TEXT NOT NULL, started REAL NOT NULL
);
CREATE TABLE instances (  -- with what only a report may know: the true files, the difficulty
    id TEXT PRIMARY KEY,
    repo TEXT NOT NULL, difficulty TEXT NOT NULL, created TEXT NOT NULL, files TEXT NOT NULL, image TEXT NOT NULL
);
CREATE TABLE attempts (  -- how far each instance came: the run that decided it, or where and why it failed
    instance TEXT PRIMARY KEY REFERENCES instances,
    run INTEGER REFERENCES runs, state TEXT NOT NULL, stage TEXT NOT NULL, failure TEXT NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE grades (  -- what the official harness said of a patch; the key is that of the instance's row and the diff
    key TEXT PRIMARY KEY,
    instance TEXT NOT NULL, normal TEXT NOT NULL, diff TEXT NOT NULL,
    resolved INTEGER NOT NULL, applied INTEGER NOT NULL, report TEXT NOT NULL, version TEXT NOT NULL,
    seconds REAL NOT NULL, created REAL NOT NULL
);
CREATE INDEX grades_by_instance ON grades (instance);
"""
