"""The page that measures in the tab, without a server: its files, written by ``autohr page``. Sources in ``web/``."""
