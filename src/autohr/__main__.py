"""``python -m autohr``, the same as ``autohr``."""

from autohr.cli.main import main

if __name__ == "__main__":
    main()
