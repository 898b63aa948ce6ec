"""The commands behind `scripts/`: arguments, data, and the order in which a run does things."""
