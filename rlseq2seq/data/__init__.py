"""Pairs of texts, their vocabulary, the token store and batches."""
