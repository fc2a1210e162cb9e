"""The language-model commands: files of prompts in, files of records out."""
