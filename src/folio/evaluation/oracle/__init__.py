"""A judge model that scores what other models write."""
