"""The ids that every vocabulary reserves."""

PAD, UNKNOWN, START, END = 0, 1, 2, 3
