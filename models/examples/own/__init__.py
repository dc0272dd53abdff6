"""Pairs as a user writes them, each in one file: `--twins models.examples.own.cnn`."""
