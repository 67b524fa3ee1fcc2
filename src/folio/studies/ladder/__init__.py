"""The ladder: from the plainest GPT-2 to the fastest, a change at a time, each measured for speed and learning."""
