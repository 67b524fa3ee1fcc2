"""The search for a learning rate, and for what else is searched with it: its winner is what the run goes by."""
