"""Training the two stages, on pixels that the deployed ``prepare`` and resize produced."""
