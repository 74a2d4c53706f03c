"""Learning from pull requests, as SWE-RL and Satori-SWE do: rows, curation, rewards, trainers."""
