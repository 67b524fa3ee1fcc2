"""What a study is: its file, its axes, and the cells that come of them."""
