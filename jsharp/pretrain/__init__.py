"""Train a base model from scratch on a task's demonstrations: `jsharp pretrain`."""
