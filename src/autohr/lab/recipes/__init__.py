"""The shipped recipes, TOML files beside this one, and ``files``, which finds and reads a recipe."""
