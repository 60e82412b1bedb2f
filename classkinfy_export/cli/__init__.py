"""The command line: one thin module a verb, over ``jobs`` and the library's own calls."""
