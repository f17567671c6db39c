"""params.yaml as frozen, typed dataclasses: a module a stage."""
