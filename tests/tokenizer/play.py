"""The text that the small tokenizers of these tests are learnt from."""

PLAY = """First Citizen:
We know't, we know't. 'Tis he -- the "king" of lovers' vows, o'er the well-known sea!

ROMEO:
Don't go (not yet): it is 12:30, and I've 1,000 crowns; say "no," or "yes."
"""
