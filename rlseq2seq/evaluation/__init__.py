"""Scores of outputs, how sure they are, and what to compare them with."""
