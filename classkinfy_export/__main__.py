"""``python -m classkinfy_export``: the command line."""

from classkinfy_export.cli.app import main

if __name__ == "__main__":
    main()
