"""Two or more evaluations held against each other, item by item."""
