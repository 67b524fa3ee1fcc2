"""What the cells came to: numbers, means, comparisons, answers."""
