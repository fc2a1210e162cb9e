"""`python -m jsharp` is the `jsharp` command."""

from jsharp.cli import entry

entry()
