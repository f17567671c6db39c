"""Errors that are the user's to mend, as opposed to faults of the program."""


class UserError(Exception):
    """Bad input: one sentence that names the thing and the remedy. Stages and the CLI exit with code 2."""
