"""Models: what asks them and what runs them."""
