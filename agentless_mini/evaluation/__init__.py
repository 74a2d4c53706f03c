"""`amini eval`: the chain over the instances of a benchmark, graded by the official harness."""
