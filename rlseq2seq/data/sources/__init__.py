"""Where pairs come from: a module or package a family of corpora."""
