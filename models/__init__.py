"""Families of models, each written twice: a folder a family; knows nothing of harness/."""
