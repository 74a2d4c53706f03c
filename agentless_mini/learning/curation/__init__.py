"""From GitHub's public events and clones to rows that a model learns from.

After "Raw pull request data curation" of SWE-RL (arXiv 2502.18449).

    events (hourly .json.gz)  -> event shards       one for each file, sorted by the part that the owner belongs to
    event shards + mirrors    -> parts              join, filters, git, rows
    parts                     -> train, valid, test near-duplicates out, splits by family of forks, parquet

A shard has its name once it is whole, so a killed run goes on at the first that is missing. What is left out is counted
by name (`Step`), what cannot be read is kept aside with the reason.
"""
