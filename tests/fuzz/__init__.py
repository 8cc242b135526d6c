"""Input made at random, and what may come of it: an answer that looks right, or one line of an error: ``make fuzz``."""
