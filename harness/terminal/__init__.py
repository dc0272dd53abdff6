"""Between the commands and whoever types them: options, refusals, files that are named, text."""

__all__ = ["cli", "errors", "inputs", "text"]
