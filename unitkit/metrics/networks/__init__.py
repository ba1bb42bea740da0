"""Networks that others have trained and metrics measure with: where their weights are, and how they are read."""
