"""The commands behind `cli`, imported only when they run: they build the parts of a run and print its result."""
