"""Learning from pull requests and made-up bugs, after SWE-RL and Satori-SWE: rows, curation, rewards, trainers."""
