"""Between the commands and whoever types them: options, refusals, named files, text, progress."""

__all__ = ["cli", "console", "errors", "inputs", "installing", "outputs", "text"]
