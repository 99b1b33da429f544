"""Data, no code: this file only lets an editable install find the folder (`importlib.resources.files("operando.configs")`)."""
