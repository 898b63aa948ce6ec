"""The supervised segment of a step: which demonstrations, as which tokens, and how much each counts."""
