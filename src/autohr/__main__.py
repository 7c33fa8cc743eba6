"""``python -m autohr`` is ``autohr``."""

from autohr.cli.main import main

if __name__ == "__main__":
    main()
