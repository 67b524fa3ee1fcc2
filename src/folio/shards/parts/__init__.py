"""A large source to shards: its parts encoded apart, by any number of processes or machines, and merged in order."""
