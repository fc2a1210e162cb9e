"""The transformer wing: prompts and responses of tokens, as a jsharp policy."""
