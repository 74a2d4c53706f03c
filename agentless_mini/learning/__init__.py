"""Learning from pull requests and made-up bugs (mission section 5): rows, curation, rewards, trainers."""
